"""The codebooks of the 2- and 3-bit number formats that GatherPacked reads.

A codebook's entries are points of a lattice, listed by number: an entry is a number whose digits, the lowest first,
name the magnitudes of neighbouring weights. They are part of the format and follow no rule, so they are written down:
the list grows, and a character says how much, from `#` for nothing on; `~` adds 91 to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

# Of eight weights each, in units of an eighth of the block's scale; those of odd magnitude are always even in number.
PAIRED: Sequence[int] = (8, 25, 43)
# Of four weights each.
SINGLE: Sequence[int] = (4, 12, 20, 28, 36, 44, 52, 62)

_LISTS = {
    "iq2_xxs": (
        r"#$$$$$$&$%$$$&&%$&$&)'$&%*2))$,50$&($&$%)($&)&$%)*-$(/$,2,&%$&)%$&$.//?(F$&(',)&%*&),'(;(<&)%)-834*E$&,1"
        r"0%E:9$&.+'$<';$K$&,*71-S/);b=$&&%$&&'%($&,,1'%/'/'(2&)5+.(AL$&,%<8%(?3,&%&$5&/0:FK$/H68(&3AAJ&,/27?25%N$"
        r":f~3$&-11))CG$&%*,534.-,6LOH&)&:.7@<-(O}9l4.2HS~L;"),
    "iq2_xs": (
        r"#$$$$$$$$$$$$%$$$$$$$%$&$$$%$%$($$$$$$$$$$&$$$%$&&%$&,$$$%$&($&%*'-$$$$$$$%$&$$$%$$%($&,$$$%$&($&('1$&*%"
        r"$1/$$$$$$&%&$&&),'$$&,1&-,&9%($$$$$$$%$&$$$%$&'$$&,$$$%$&($&,)$*$$%,,5$$$%$&($%$)&1$&,>).;$&$+)-.%:E8$$$"
        r"$$$$&($&,,($&,&+3-4/%$&+$>1(3)+A%&$(.-*@)/)6%$-$$$$$$$%$&$$$$$$&%&$&,$$$%$&($&,%+'$&$*$>$$$%$%$($&,)+$&)"
        r"&9('.&:$&,%''4(-&+3J$$$%$&&%$&,1$&%*$=2<$$&(',(,'&;&73.')+'41($Z/$&,)')-$V*2+*I,%9O=<C4'4$$$%$&'$$&,$.$$"
        r"$$%,(&6,5$+&%$&$$*,+-2:-61&+.($.'S4&'(%$&,*+/-1H--%0&&C6$9P76A35$%$('::&4%$%-1,57k--($%;&&>$:$6+"),
    "iq2_s": (
        r"#$$$$$$$$$$$$%$$$$$$$%$$$$$$$%$&%%$$$$$$$$%$&$$$%$$$$%$%$&$$&$&$$$%$&'$$$$$%*%%%''$$$$$$$%$$$$$$$$$$$$$$"
        r"$&$$$$%$%$&$$$$$$$$$%$%$$$$$$$%$&$$$%$&($$$$%*%$%$&($&,$$$%$$$$%%$$$$$$$$%$&%'*$$&$$$%'%$%$&(',($'%$(4)$"
        r"$$$$$$%$$%$$$%$$$$$$$%$$%%$%$&$$$$$$$$$$$$%$$$$$$$%$&$$$%$+$%$%&$&%&$+$&,$$$%$$$$%$%$$$$$$$%$&$$$%$&($$$"
        r"$$$$%$&$$$%$&($&,%$%$&($&,0$$$$$%$%'$$$%$&($/$$$%$&($&+.(&,*7$$$%$$$$%%$$&$$'&'%*$$&$$&'$$&$&($&,')%$%&/"
        r"$+%$$$$%$%$&$$$%$&($&,%$%$&($&*%1$&,+6%&$+$&0,$$&@.)1)$-$$$$$$$$$$$%$$$$$$$$$$$&$&%$%$&$$$%$$$$$$&$$$$$$"
        r"$%$&$$$%$&($&$$$&&%$%$&($/$$$$$$$$$$$$%$$$$$$$%$&$$$%$&($$$$$$$%$&$$$%$&'$$&,$$$%$&($&,.&$%$$$$%$&$$$%$&"
        r")&,$$$%$&($&,**$&,>$$$%$$$$$$$%$$$$$$$%$&$$$%$+$$$$$$$%$&$$$%$&($&,%$%$&($&+$1$$$$$$$%$&$$$%$&($&,$$$%$&"
        r"($&,1$&*%>$$$%$&($&'(1$&,>+8-%$$%$$$%$&%$%$&)&,$$$%$&($&,+*&,*3'%$%$&($&,1$&,'+*+D+$&7-)0M9'$$$%$%$%&$&$"
        r"$$%'%&$+$%$$$$%$&$$$%$+$&+$%%$$+$&:$$$$$$$%'$$$%$&($&,$$$%$&($&,'-$&+$>%&$+$&6'$/.=.$),'$%$$$$&&$$$%$&($"
        r"&,%&$+$&'6$&,<%$$$%$&($&,**$&,8%'3+4$&*%=$4%X,%%%'&$$&6&1.4&)%$2%$+%$&,4*&+V=+<:-1$($%5-"),
    "iq3_xxs": (
        r"#%%(%'$%*,<%'%(%*'&%*./+%%(*%*%'-)1')$%.F67(./%')63V:7'%813%(%*%(%%.$;%**%R%(%**E)%1,03.'FK'56/p1C%*%(%'"
        r"&,B%%&%**>'$+%*)$%0$07*'O'D1;7->h%.:?*%*%80()%1,.%>%(08325`26))/>B58K87.1%/'p72$3)4ABH.D18p&%1U::+)3:B1C"
        r"+L@.'F+:rO1U3%1@CAHG)iDHTK1U%%$53O-M>(9018D3B%5g"),
}


@cache
def codebook(name: str) -> Any:
    """The entries, (entries, weights) float32.

    >>> codebook("iq2_xxs")[1].tolist()
    [43.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]
    """
    magnitudes, width, step = (SINGLE, 4, 1) if name == "iq3_xxs" else (PAIRED, 8, 2)
    numbers, now = [], 0
    for character in _LISTS[name]:
        if character == "~":
            now += 91 * step
        else:
            now += (ord(character) - ord("#")) * step
            numbers.append(now)
    base = len(magnitudes)
    digits = np.array(numbers)[:, None] // base ** np.arange(width) % base
    return np.array(magnitudes, np.float32)[digits]
