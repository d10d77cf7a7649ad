// llama.cpp's own decode loop, as plain as it gets: the yardstick of benchmarks/decode.py.
//
//   decode_loop MODEL THREADS PROMPT_TOKENS NEW_TOKENS CONTEXT_LENGTH
//
// Reads one repetition per line of standard input (any text), so that the caller can interleave it with another
// engine; for each it clears the context, prefills the same prompt and decodes NEW_TOKENS greedily.
// Answers with one line: "<prompt seconds> <decode seconds> <last token>".
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *user_data) {
    (void) user_data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    const int threads = atoi(argv[2]), n_prompt = atoi(argv[3]), n_new = atoi(argv[4]);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = atoi(argv[5]);
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) return 1;
    struct llama_sampler *greedy = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(greedy, llama_sampler_init_greedy());

    llama_token *prompt = malloc(sizeof(llama_token) * n_prompt);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        for (int i = 0; i < n_prompt; i++) prompt[i] = 1000 + 7 * i;  // decode.py sends the engine the same ids
        llama_memory_clear(llama_get_memory(context), false);
        const double start = now_seconds();
        if (llama_decode(context, llama_batch_get_one(prompt, n_prompt))) return 1;
        llama_token token = llama_sampler_sample(greedy, context, -1);
        const double prompted = now_seconds();
        for (int i = 1; i < n_new; i++) {
            if (llama_decode(context, llama_batch_get_one(&token, 1))) return 1;
            token = llama_sampler_sample(greedy, context, -1);
        }
        printf("%.6f %.6f %d\n", prompted - start, now_seconds() - prompted, token);
        fflush(stdout);
    }
    return 0;
}
