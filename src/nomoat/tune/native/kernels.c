/* Fused kernels for training on packed GGUF weights: what torch runs as many passes over memory runs here as one.
 *
 * Plain C with OpenMP, vectorised by the compiler for the machine it is built on. Built once per machine by
 * nomoat.tune.native, loaded with ctypes after torch, so that both share one OpenMP runtime.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Elements below which waking the other threads costs more than they do. */
#define WORTH_SHARING 131072

typedef void (*to_float_fn)(const void *, float *, int64_t); /* ggml_type_traits.to_float */

/* exp(x) for float, relative error below 2e-7 (Cephes' polynomial), written so that it vectorises. */
static inline float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float n = __builtin_rintf(x * 1.44269504088896341f);
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float bf16_load(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t bf16_store(float x) { /* round to nearest even, as torch does */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#define REAL float
#define NAME(f) nomoat_##f##_f32
#define LOAD(v) (v)
#define STORE(v) (v)
#include "kernels_body.h"
#undef REAL
#undef NAME
#undef LOAD
#undef STORE

#define REAL uint16_t
#define NAME(f) nomoat_##f##_bf16
#define LOAD(v) bf16_load(v)
#define STORE(v) bf16_store(v)
#include "kernels_body.h"
