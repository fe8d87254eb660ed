/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_vcpu.c - bytes as the state of a vCPU, as they are and with a right length and checksum. What is taken has
 * numbers that are in bounds, and is written again as a state that is taken and the same.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tool/vcpu_state.h"

static struct vcpu_state first;
static struct vcpu_state second;

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check(const uint8_t *data, size_t size)
{
	const char *why = vcpu_state_decode(data, size, &first);
	uint8_t *again;
	size_t len;

	if (why) {
		require(why[0] && !strpbrk(why, "\n\r\033"));
		return;
	}
	require(first.nr_msrs <= VCPU_MSRS_MAX && first.nr_cpuid <= VCPU_CPUID_MAX &&
		first.xsave_len <= VCPU_XSAVE_MAX);
	len = vcpu_state_len(&first);
	require(len == size);
	again = malloc(len);
	require(again != NULL);
	vcpu_state_encode(&first, again);
	require(vcpu_state_decode(again, len, &second) == NULL);
	require(memcmp(&first, &second, sizeof(first)) == 0);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);
	uint8_t *copy;

	check(data, size);
	if (size < VCPU_STATE_HEADER_LEN)
		return 0;
	copy = malloc(size);
	require(copy != NULL);
	memcpy(copy, data, size);
	for (size_t i = VCPU_STATE_HEADER_LEN; i < size; i++)
		sum = (sum ^ copy[i]) * UINT64_C(0x100000001b3);
	memcpy(copy, &(uint64_t){VCPU_STATE_MAGIC}, 8);
	memcpy(copy + 8, &(uint32_t){VCPU_STATE_VERSION}, 4);
	memcpy(copy + 12, &(uint32_t){(uint32_t)size}, 4);
	memset(copy + 20, 0, 4);
	memcpy(copy + 24, &sum, 8);
	check(copy, size);
	free(copy);
	return 0;
}
