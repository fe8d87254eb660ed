/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_firecracker.c - any text as a monitor's message. What is accepted is in order, and says the same when it is
 * written again.
 */
#include <guestmem/firecracker.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 16u

static void must(bool good)
{
	if (!good)
		abort();
}

static void check(const struct gm_firecracker_mapping *m, size_t nr)
{
	must(nr > 0 && nr <= MAX);
	for (size_t i = 0; i < nr; i++) {
		uint64_t size = m[i].page_size;

		must(size >= 4096 && size <= 1u << 30 && (size & (size - 1)) == 0);
		must(m[i].len && m[i].len % size == 0 && m[i].hva % size == 0);
		must(m[i].len - 1 <= UINT64_MAX - m[i].hva);
		must(m[i].len - 1 <= UINT64_MAX - m[i].offset);
		must(i == 0 ||
			(m[i].hva > m[i - 1].hva && m[i].hva - m[i - 1].hva >= m[i - 1].len));
	}
}

static size_t write_again(
	char *text, size_t room, const struct gm_firecracker_mapping *m, size_t nr)
{
	size_t len = 0;

	for (size_t i = 0; i < nr; i++)
		len += (size_t)snprintf(text + len, room - len,
			"%c{\"offset\":%llu,\"size\":%llu,\"base_host_virt_addr\":%llu,\"page_"
			"size\":%llu}",
			i ? ',' : '[', (unsigned long long)m[i].offset,
			(unsigned long long)m[i].len, (unsigned long long)m[i].hva,
			(unsigned long long)m[i].page_size);
	text[len++] = ']';
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_firecracker_mapping first[MAX];
	struct gm_firecracker_mapping second[MAX];
	char again[MAX * 160];
	char *text = malloc(size ? size : 1);
	struct gm_error err = {.text = "?"};
	size_t nr = 0;
	size_t nr_again = 0;

	must(text);
	if (size)
		memcpy(text, data, size);
	if (gm_firecracker_decode(text, size, first, MAX, &nr, &err)) {
		must(err.code < 0 && strlen(err.text) > 1);
	} else {
		check(first, nr);
		must(gm_firecracker_decode(again, write_again(again, sizeof(again), first, nr),
			     second, MAX, &nr_again, NULL) == 0);
		must(nr_again == nr && memcmp(first, second, nr * sizeof(first[0])) == 0);
	}
	free(text);
	return 0;
}
