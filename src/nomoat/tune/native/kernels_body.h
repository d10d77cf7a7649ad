/* The kernels for one element type. Included by kernels.c once with REAL = float and once with REAL = bfloat16.
 *
 * Every kernel walks whole rows; rows are shared out statically, so results do not depend on timing.
 * Rows are widened to float on reading and rounded once on writing.
 */

/* out = x / rms(x) * weight; rstd (rows,) is kept for the backward pass.
 * With `delta`, x += delta first: the residual addition rides along. */
void NAME(rmsnorm_forward)(REAL *x, const REAL *delta, const float *weight, REAL *out, float *rstd,
                           int64_t rows, int64_t width, float eps) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        REAL *xr = x + r * width;
        REAL *o = out + r * width;
        float sum = 0.0f;
        if (delta) {
            const REAL *dr = delta + r * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) xr[i] = STORE(LOAD(xr[i]) + LOAD(dr[i]));
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += LOAD(xr[i]) * LOAD(xr[i]);
        float scale = 1.0f / sqrtf(sum / (float)width + eps);
        rstd[r] = scale;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) o[i] = STORE(LOAD(xr[i]) * scale * weight[i]);
    }
}

/* grad_x += d(rmsnorm)/dx * grad_out. The weight is frozen and gets no gradient. */
void NAME(rmsnorm_backward)(const REAL *grad_out, const REAL *x, const float *weight, const float *rstd,
                            REAL *grad_x, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        const REAL *g = grad_out + r * width;
        const REAL *xr = x + r * width;
        REAL *gx = grad_x + r * width;
        float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < width; i++) dot += LOAD(g[i]) * weight[i] * LOAD(xr[i]);
        float s = rstd[r];
        float c = dot * s * s * s / (float)width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            gx[i] = STORE(LOAD(gx[i]) + LOAD(g[i]) * weight[i] * s - LOAD(xr[i]) * c);
    }
}

/* Rotary embedding in place on (rows, heads, head_dim) with row stride `stride`; sign = -1 undoes it (backward).
 * cosines and sines are (positions, rotary/2). interleaved: pairs (2i, 2i+1), else (i, i + rotary/2). */
void NAME(rope)(REAL *x, const int32_t *positions, const float *cosines, const float *sines, int64_t rows,
                int64_t heads, int64_t head_dim, int64_t rotary, int64_t stride, int interleaved, float sign) {
    int64_t half = rotary / 2;
#pragma omp parallel for schedule(static) if (rows * stride > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        const float *c = cosines + positions[r] * half;
        const float *s = sines + positions[r] * half;
        for (int64_t h = 0; h < heads; h++) {
            REAL *v = x + r * stride + h * head_dim;
            if (interleaved) {
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    float a = LOAD(v[2 * i]), b = LOAD(v[2 * i + 1]), t = sign * s[i];
                    v[2 * i] = STORE(a * c[i] - b * t);
                    v[2 * i + 1] = STORE(a * t + b * c[i]);
                }
            } else {
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    float a = LOAD(v[i]), b = LOAD(v[i + half]), t = sign * s[i];
                    v[i] = STORE(a * c[i] - b * t);
                    v[i + half] = STORE(a * t + b * c[i]);
                }
            }
        }
    }
}

/* out = silu(gate) * up, where gate_up is (rows, 2 * width): gate first, then up. */
void NAME(swiglu_forward)(const REAL *gate_up, REAL *out, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        const REAL *g = gate_up + r * 2 * width;
        const REAL *u = g + width;
        REAL *o = out + r * width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float a = LOAD(g[i]);
            o[i] = STORE(a / (1.0f + fast_exp(-a)) * LOAD(u[i]));
        }
    }
}

/* grad_gate_up (rows, 2 * width) from grad_out (rows, width). */
void NAME(swiglu_backward)(const REAL *grad_out, const REAL *gate_up, REAL *grad_gate_up, int64_t rows,
                           int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        const REAL *d = grad_out + r * width;
        const REAL *g = gate_up + r * 2 * width;
        const REAL *u = g + width;
        REAL *dg = grad_gate_up + r * 2 * width;
        REAL *du = dg + width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float a = LOAD(g[i]), grad = LOAD(d[i]);
            float sigmoid = 1.0f / (1.0f + fast_exp(-a));
            du[i] = STORE(grad * a * sigmoid);
            dg[i] = STORE(grad * LOAD(u[i]) * sigmoid * (1.0f + a * (1.0f - sigmoid)));
        }
    }
}

/* Causal softmax in place on scores (matrices, heads * queries, keys): probabilities of scores * scale.
 * Row (h, i) of every matrix is the query at position first + i and sees keys 0 .. first + i.
 * log_sums (matrices, heads * queries) is kept for the backward pass. */
void NAME(causal_softmax)(REAL *scores, float *log_sums, int64_t rows, int64_t queries, int64_t keys,
                          int64_t first, float scale) {
#pragma omp parallel for schedule(static) if (rows * keys > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        REAL *s = scores + r * keys;
        int64_t seen = first + r % queries + 1;
        float top = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : top)
        for (int64_t i = 0; i < seen; i++) top = LOAD(s[i]) > top ? LOAD(s[i]) : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < seen; i++) sum += fast_exp((LOAD(s[i]) - top) * scale);
        float log_sum = top * scale + logf(sum);
        log_sums[r] = log_sum;
#pragma omp simd
        for (int64_t i = 0; i < seen; i++) s[i] = STORE(fast_exp(LOAD(s[i]) * scale - log_sum));
        for (int64_t i = seen; i < keys; i++) s[i] = STORE(0.0f);
    }
}

/* scores become probabilities again, grad (of the probabilities) becomes the gradient of the raw scores:
 * scale * p * (grad - delta), with delta (rows,) = sum over the head of grad_out * out. */
void NAME(causal_softmax_backward)(REAL *scores, REAL *grad, const float *log_sums, const float *delta,
                                   int64_t rows, int64_t queries, int64_t keys, int64_t first, float scale) {
#pragma omp parallel for schedule(static) if (rows * keys > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        REAL *s = scores + r * keys;
        REAL *g = grad + r * keys;
        int64_t seen = first + r % queries + 1;
#pragma omp simd
        for (int64_t i = 0; i < seen; i++) {
            float p = fast_exp(LOAD(s[i]) * scale - log_sums[r]);
            s[i] = STORE(p);
            g[i] = STORE(p * (LOAD(g[i]) - delta[r]) * scale);
        }
        for (int64_t i = seen; i < keys; i++) s[i] = g[i] = STORE(0.0f);
    }
}

/* loss[r] = -log softmax(logits[r])[target[r]]; logits are overwritten by their gradient times scale,
 * or left alone when scale is 0. */
void NAME(cross_entropy)(REAL *logits, const int64_t *targets, float *loss, int64_t rows, int64_t width,
                         float scale) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_SHARING)
    for (int64_t r = 0; r < rows; r++) {
        REAL *z = logits + r * width;
        float top = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : top)
        for (int64_t i = 0; i < width; i++) top = LOAD(z[i]) > top ? LOAD(z[i]) : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += fast_exp(LOAD(z[i]) - top);
        float log_sum = top + logf(sum);
        loss[r] = log_sum - LOAD(z[targets[r]]);
        if (scale == 0.0f) continue;
        float at_target = fast_exp(LOAD(z[targets[r]]) - log_sum) - 1.0f;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) z[i] = STORE(fast_exp(LOAD(z[i]) - log_sum) * scale);
        z[targets[r]] = STORE(at_target * scale);
    }
}

/* Unpack `rows` rows of GGUF blocks with ggml's own routine, each row rounded once to REAL.
 * Returns 0, or -1 when memory for the row buffers could not be had. */
int NAME(unpack)(to_float_fn to_float, const uint8_t *blocks, int64_t row_bytes, REAL *out, int64_t rows,
                 int64_t width) {
    int failed = 0;
#pragma omp parallel
    {
        float *row = malloc((size_t)width * sizeof(float));
        if (!row) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (failed) continue;
            to_float(blocks + r * row_bytes, row, width);
            REAL *o = out + r * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) o[i] = STORE(row[i]);
        }
        free(row);
    }
    return failed ? -1 : 0;
}
