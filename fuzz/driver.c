/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver.c - runs a fuzz target without libFuzzer, so that every build and every compiler does it
 * for a moment.
 *
 * driver [RUNS] FILE... gives each file to the target, then RUNS (default 50000, times
 * GM_TEST_SCALE) mutated ones. The seed is fixed unless GM_TEST_SEED is set. scripts/fuzz searches
 * with coverage and for longer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define FILES_MAX 256
#define LEN_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct input {
	size_t len;
	uint8_t data[LEN_MAX];
} files[FILES_MAX];
static unsigned int nr_files;

/* On the heap at its exact length, so that a sanitizer sees a step outside. */
static void give(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int load(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || nr_files == FILES_MAX) {
		fprintf(stderr, "driver: cannot take %s\n", path);
		return 1;
	}
	files[nr_files].len = fread(files[nr_files].data, 1, LEN_MAX, file);
	fclose(file);
	give(files[nr_files].data, files[nr_files].len);
	nr_files++;
	return 0;
}

static void put_number(struct rng *rng, struct input *input)
{
	size_t width = (size_t)1 << rng_below(rng, 4);
	uint64_t value = rng_edge(rng);
	size_t at;

	if (input->len < width)
		return;
	at = rng_below(rng, input->len - width + 1);
	/* Mostly where a field would be. */
	if (rng_below(rng, 4))
		at = at / width * width;
	if (rng_below(rng, 3) == 0)
		value *= 4096;
	for (size_t i = 0; i < width; i++)
		input->data[at + i] = (uint8_t)(value >> (8 * i));
}

/* Bytes of another input, at the place where they are there. */
static void splice(struct rng *rng, struct input *input)
{
	const struct input *other = &files[rng_below(rng, nr_files)];
	size_t len = other->len < input->len ? other->len : input->len;
	size_t at = len ? rng_below(rng, len) : 0;

	memcpy(input->data + at, other->data + at, len ? 1 + rng_below(rng, len - at) : 0);
}

static void mutate(struct rng *rng, struct input *input)
{
	switch (rng_below(rng, 8)) {
	case 0:
		input->len = rng_below(rng, input->len + 1);
		break;
	case 1:
		if (input->len < LEN_MAX - 80) {
			memset(input->data + input->len, 0, 80);
			input->len += 80;
		}
		break;
	case 2:
		splice(rng, input);
		break;
	case 3:
		if (input->len)
			input->data[rng_below(rng, input->len)] ^=
				(uint8_t)(1u << rng_below(rng, 8));
		break;
	default:
		put_number(rng, input);
	}
}

int main(int argc, char **argv)
{
	static struct input input;
	struct rng rng = {test_seed(1)};
	const char *scale = getenv("GM_TEST_SCALE");
	double runs = 50000;
	int first = 1;

	if (argc > 1 && strspn(argv[1], "0123456789") == strlen(argv[1]))
		runs = strtod(argv[first++], NULL);
	for (int i = first; i < argc; i++) {
		if (load(argv[i]))
			return 2;
	}
	if (nr_files == 0) {
		fprintf(stderr, "driver: no input\n");
		return 2;
	}
	if (scale)
		runs *= strtod(scale, NULL);
	for (unsigned long i = 0; i < (unsigned long)runs; i++) {
		uint64_t nr = 1 + rng_below(&rng, 4);

		input = files[rng_below(&rng, nr_files)];
		for (uint64_t j = 0; j < nr; j++)
			mutate(&rng, &input);
		give(input.data, input.len);
	}
	printf("%u inputs, %lu mutated ones\n", nr_files, (unsigned long)runs);
	return 0;
}
