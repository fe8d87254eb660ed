/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_run_state.c - bytes as a guest of "guestmem run" that comes from another process: as they are, with a right
 * length and checksum, and as the JSON of one that is else right. What is taken is in bounds, and is written again as
 * the same bytes; what it says of itself can be made.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tool/restore.h"
#include "../tool/run_snapshot.h"
#include "../tool/run_state.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_about(const struct gm_snapshot_label *labels, size_t nr)
{
	struct restore_about about = {.words = NULL};
	struct run_opts o = {.vcpus = 0};

	if (restore_about(labels, nr, "fuzz", &about, &o)) {
		require(o.vcpus >= 1 && o.vcpus <= MACHINE_VCPUS_MAX);
		require(o.guest_log2 == 12 || o.guest_log2 == 21 || o.guest_log2 == 30);
		require(o.payload < RUN_NR_PAYLOADS && o.nr_words >= 1 && o.words[0]);
		require(o.pause >= 0 && (o.engine == RUN_KVM || o.engine == RUN_THREAD));
		for (uint32_t i = 0; i < o.vcpus; i++)
			require(about.vcpus[i].bytes &&
				(about.vcpus[i].end == MACHINE_ENDED ||
					about.vcpus[i].end == MACHINE_STOPPED));
	}
	restore_about_fini(&about, &o);
}

static void check(const uint8_t *data, size_t size)
{
	struct gm_snapshot_label labels[RUN_STATE_PARTS_MAX];
	size_t nr = 0;
	const char *why = run_state_decode(data, size, labels, &nr);
	uint8_t *again;

	if (why) {
		require(why[0] && !strpbrk(why, "\n\r\033"));
		return;
	}
	require(nr >= 1 && nr <= RUN_STATE_PARTS_MAX);
	for (size_t i = 0; i < nr; i++)
		require(labels[i].len <= RUN_STATE_VALUE_MAX &&
			(const uint8_t *)labels[i].value + labels[i].len <= data + size);
	require(run_state_len(labels, nr) == size);
	again = malloc(size);
	require(again != NULL);
	run_state_encode(labels, nr, again);
	require(memcmp(again, data, size) == 0);
	free(again);
	check_about(labels, nr);
}

static void check_repaired(const uint8_t *data, size_t size)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);
	uint8_t *copy = malloc(size);

	require(copy != NULL);
	memcpy(copy, data, size);
	for (size_t i = RUN_STATE_HEADER_LEN; i < size; i++)
		sum = (sum ^ copy[i]) * UINT64_C(0x100000001b3);
	memcpy(copy, &(uint64_t){RUN_STATE_MAGIC}, 8);
	memcpy(copy + 8, &(uint32_t){RUN_STATE_VERSION}, 4);
	memcpy(copy + 16, &(uint64_t){size}, 8);
	memcpy(copy + 24, &sum, 8);
	check(copy, size);
	free(copy);
}

/* All of it as the JSON, with as many vCPUs beside it as there can be. */
static void check_json(const uint8_t *data, size_t size)
{
	struct gm_snapshot_label labels[RUN_LABELS_MAX];
	char names[RUN_LABELS_MAX][16];

	for (uint32_t i = 0; i < MACHINE_VCPUS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "%s-%u", size & 1 ? "vcpu" : "thread", i);
		labels[i] = (struct gm_snapshot_label){names[i], data, size};
	}
	labels[MACHINE_VCPUS_MAX] = (struct gm_snapshot_label){RUN_SNAPSHOT_LABEL, data, size};
	check_about(labels, RUN_LABELS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;

	/* Each refusal has a line on standard error. */
	if (!quiet && !freopen("/dev/null", "w", stderr))
		return 0;
	quiet = true;
	check(data, size);
	if (size >= RUN_STATE_HEADER_LEN)
		check_repaired(data, size);
	check_json(data, size);
	return 0;
}
