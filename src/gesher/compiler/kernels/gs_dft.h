// The discrete Fourier transform along any axis, of any length, in doubles: Stockham's way of Cooley and Tukey, which puts
// the results in order as it goes (C. Van Loan, Computational Frameworks for the Fast Fourier Transform, 1992, 1.7).
//
// Lengths are taken apart into 4, 2 and odd primes; a prime p costs p operations an element, so that a prime length is
// the plain sum. The inverse transform is the same with real and imaginary parts swapped.

#include "gs_conv_f32.h"

typedef struct GsDft {
  int64_t outer, size, inner, parts;  // x (outer, size, inner, parts), parts 1 (real) or 2
  int64_t taken, n, bins;             // elements of x that count, the length (zeros make it up), y's elements
  int inverse, onesided;              // onesided and inverse: y is real, x has the first half of the bins
  const double* x;
  double* y;            // (outer, bins, inner, 2), the last axis 1 for the inverse of one side
  const double* waves;  // cos and sin of 2 pi k / n: (2, n); NULL: they are computed
  float* scratch;       // gs_dft_scratch(v, threads) floats
} GsDft;

GS_LOCAL int64_t gs_dft_scratch(const GsDft* v, int threads) {
  return 2 * (v->waves ? 0 : 2 * v->n) + threads * 2 * 4 * v->n;
}

// One transform's input, row `at` of (outer, inner), as real and imaginary parts.
GS_INLINE void gs_dft_read(const GsDft* v, int64_t at, double* re, double* im) {
  int64_t n = v->n, inner = v->inner, parts = v->parts;
  const double* x = v->x + (at / inner * v->size * inner + at % inner) * parts;
  for (int64_t k = 0; k < v->taken; k++) {
    re[k] = x[k * inner * parts];
    im[k] = parts == 2 ? x[k * inner * parts + 1] : 0;
  }
  for (int64_t k = v->taken; k < n; k++) re[k] = im[k] = 0;
  if (!v->inverse || !v->onesided) return;
  // The other half mirrors the first; what has no partner is real.
  im[0] = 0;
  if (n % 2 == 0) im[n / 2] = 0;
  for (int64_t k = n / 2 + 1; k < n; k++) re[k] = re[n - k], im[k] = -im[n - k];
}

GS_INLINE void gs_dft_write(const GsDft* v, int64_t at, const double* re, const double* im) {
  int64_t inner = v->inner, parts = v->inverse && v->onesided ? 1 : 2;
  double scale = v->inverse ? 1 / (double)v->n : 1;
  double* y = v->y + (at / inner * v->bins * inner + at % inner) * parts;
  for (int64_t k = 0; k < v->bins; k++) {
    y[k * inner * parts] = re[k] * scale;
    if (parts == 2) y[k * inner * parts + 1] = im[k] * scale;
  }
}

GS_LOCAL void gs_dft_plain(const GsDft* v, GsPool* pool) {
  (void)pool;
  if (v->n <= 0) return;
  double *re = (double*)(void*)v->scratch + (v->waves ? 0 : 2 * v->n), *im = re + v->n, *a = im + v->n, *b = a + v->n;
  for (int64_t at = 0; at < v->outer * v->inner; at++) {
    gs_dft_read(v, at, re, im);
    for (int64_t k = 0; k < v->n; k++) {
      a[k] = b[k] = 0;
      for (int64_t t = 0; t < v->n; t++) {
        double angle = 6.283185307179586 * (double)(t * k % v->n) / (double)v->n;
        double c = cos(angle), s = v->inverse ? sin(angle) : -sin(angle);
        a[k] += re[t] * c - im[t] * s, b[k] += re[t] * s + im[t] * c;
      }
    }
    gs_dft_write(v, at, a, b);
  }
}

// One pass: transforms of r elements, s of them side by side, m apart; w* are the waves of the whole length n = r m s.
GS_LOCAL void gs_dft_pass(int64_t r, int64_t m, int64_t s, const double* wc, const double* ws, const double* restrict xr,
                          const double* restrict xi, double* restrict yr, double* restrict yi) {
  int64_t n = r * m * s;
  for (int64_t p = 0; p < m; p++) {
    const double *ar = xr + s * p, *ai = xi + s * p;
    double *br = yr + s * r * p, *bi = yi + s * r * p;
    if (r == 2) {
      double c = wc[p * s], d = -ws[p * s];
      for (int64_t q = 0; q < s; q++) {
        double a = ar[q], b = ai[q], e = ar[q + s * m], f = ai[q + s * m];
        br[q] = a + e, bi[q] = b + f;
        br[q + s] = (a - e) * c - (b - f) * d, bi[q + s] = (a - e) * d + (b - f) * c;
      }
    } else if (r == 4) {
      double c1 = wc[p * s], d1 = -ws[p * s], c2 = wc[2 * p * s], d2 = -ws[2 * p * s], c3 = wc[3 * p * s],
             d3 = -ws[3 * p * s];
      for (int64_t q = 0; q < s; q++) {
        double a0 = ar[q], a1 = ar[q + s * m], a2 = ar[q + 2 * s * m], a3 = ar[q + 3 * s * m];
        double b0 = ai[q], b1 = ai[q + s * m], b2 = ai[q + 2 * s * m], b3 = ai[q + 3 * s * m];
        double t0 = a0 + a2, u0 = b0 + b2, t1 = a0 - a2, u1 = b0 - b2;
        double t2 = a1 + a3, u2 = b1 + b3, t3 = a1 - a3, u3 = b1 - b3;
        // The second is times -i of what the fourth is times i.
        double e1 = t1 + u3, f1 = u1 - t3, e2 = t0 - t2, f2 = u0 - u2, e3 = t1 - u3, f3 = u1 + t3;
        br[q] = t0 + t2, bi[q] = u0 + u2;
        br[q + s] = e1 * c1 - f1 * d1, bi[q + s] = e1 * d1 + f1 * c1;
        br[q + 2 * s] = e2 * c2 - f2 * d2, bi[q + 2 * s] = e2 * d2 + f2 * c2;
        br[q + 3 * s] = e3 * c3 - f3 * d3, bi[q + 3 * s] = e3 * d3 + f3 * c3;
      }
    } else {
      for (int64_t k = 0; k < r; k++) {
        double c = wc[p * k * s], d = -ws[p * k * s];
        double *tr = br + s * k, *ti = bi + s * k;
        for (int64_t q = 0; q < s; q++) tr[q] = ar[q], ti[q] = ai[q];
        for (int64_t j = 1, at = k; j < r; j++, at = at + k < r ? at + k : at + k - r) {
          double g = wc[at * (n / r)], h = -ws[at * (n / r)];
          const double *er = ar + s * m * j, *ei = ai + s * m * j;
          for (int64_t q = 0; q < s; q++) tr[q] += er[q] * g - ei[q] * h, ti[q] += er[q] * h + ei[q] * g;
        }
        for (int64_t q = 0; q < s; q++) {
          double a = tr[q], e = ti[q];
          tr[q] = a * c - e * d, ti[q] = a * d + e * c;
        }
      }
    }
  }
}

typedef struct GsDftRun {
  const GsDft* v;
  const double* waves;
  double* room;
} GsDftRun;

GS_LOCAL void gs_dft_task(void* arg, int64_t begin, int64_t end, int thread) {
  const GsDftRun* run = arg;
  const GsDft* v = run->v;
  int64_t n = v->n;
  double *x = run->room + thread * 4 * n, *y = x + 2 * n;
  const double *wc = run->waves, *ws = wc + n;
  for (int64_t at = begin; at < end; at++) {
    // The inverse sees imaginary parts as real ones.
    double *re = v->inverse ? x + n : x, *im = v->inverse ? x : x + n, *to = y, *from = x;
    gs_dft_read(v, at, re, im);
    for (int64_t left = n, s = 1; left > 1;) {
      int64_t r = left % 4 == 0 ? 4 : left % 2 == 0 ? 2 : 3;
      while (left % r) r = r * r > left ? left : r + 2;
      left /= r;
      gs_dft_pass(r, left, s, wc, ws, from, from + n, to, to + n);
      s *= r;
      double* other = from;
      from = to, to = other;
    }
    gs_dft_write(v, at, v->inverse ? from + n : from, v->inverse ? from : from + n);
  }
}

GS_LOCAL void gs_dft(const GsDft* v, GsPool* pool) {
  int64_t n = v->n;
  if (n <= 0 || v->outer * v->inner <= 0) return;
  GsDftRun run = {v, v->waves, (double*)(void*)v->scratch};
  if (!v->waves) {
    for (int64_t k = 0; k < n; k++) {
      run.room[k] = cos(6.283185307179586 * (double)k / (double)n);
      run.room[n + k] = sin(6.283185307179586 * (double)k / (double)n);
    }
    run.waves = run.room;
    run.room += 2 * n;
  }
  gs_parallel_for(v->outer * v->inner * n < 2048 ? 0 : pool, v->outer * v->inner, gs_dft_task, &run);
}
