/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checksum.c - XXH3 of guest memory, chunk by chunk.
 *
 * xxHash is compiled in here, so that whoever uses the library does not need it. It looks at what a state was
 * before it sets it up.
 */
#include <guestmem/checksum.h>

#include <guestmem/scan.h>

#define XXH_INLINE_ALL 1
#include <xxhash.h>

#if GM_CHECKSUM_AVX2
#include <sys/platform/x86.h>
#endif

#include "services/checksum.h"

static int add_64(void *ctx, const void *data, size_t n)
{
	XXH3_64bits_update(ctx, data, n);
	return 0;
}

int gm_checksum(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t *ret_sum, size_t *done)
{
	XXH3_state_t state = {.seed = 0};
	int rc;

	XXH3_64bits_reset_withSeed(&state, seed);
	rc = gm_for_each_chunk(view, gpa, len, add_64, &state, done);
	if (!rc)
		*ret_sum = XXH3_64bits_digest(&state);
	return rc;
}

static int add_128(void *ctx, const void *data, size_t n)
{
	XXH3_128bits_update(ctx, data, n);
	return 0;
}

int gm_checksum_128(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t ret_sum[2], size_t *done)
{
	XXH3_state_t state = {.seed = 0};
	XXH128_hash_t sum;
	int rc;

	XXH3_128bits_reset_withSeed(&state, seed);
	rc = gm_for_each_chunk(view, gpa, len, add_128, &state, done);
	if (rc)
		return rc;
	sum = XXH3_128bits_digest(&state);
	ret_sum[0] = sum.low64;
	ret_sum[1] = sum.high64;
	return 0;
}

_Static_assert(
	sizeof(struct gm_checksum_run) >= sizeof(XXH3_state_t), "a run has room for the state");
_Static_assert(_Alignof(struct gm_checksum_run) >= _Alignof(XXH3_state_t),
	"a run is aligned as the state is");

/* Of what is shorter most is not the loop. */
#define WIDE_LEN 1024u

bool gm_checksum_begin(struct gm_checksum_run *run)
{
	XXH3_64bits_reset((XXH3_state_t *)run);
	return true;
}

void gm_checksum_add(struct gm_checksum_run *run, const void *bytes, size_t len)
{
#if GM_CHECKSUM_AVX2
	if (len >= WIDE_LEN && CPU_FEATURE_ACTIVE(AVX2)) {
		gm_checksum_add_avx2(run, bytes, len);
		return;
	}
#endif
	XXH3_64bits_update((XXH3_state_t *)run, bytes, len);
}

uint64_t gm_checksum_end(const struct gm_checksum_run *run)
{
	return XXH3_64bits_digest((const XXH3_state_t *)run);
}

bool gm_checksum_bytes(const void *bytes, size_t len, uint64_t *ret)
{
	*ret = XXH3_64bits(bytes, len);
	return true;
}

bool gm_checksum_bytes_128(const void *bytes, size_t len, uint8_t ret[16])
{
	XXH128_hash_t sum = XXH3_128bits(bytes, len);

	for (unsigned int i = 0; i < 8; i++) {
		ret[i] = (uint8_t)(sum.low64 >> 8 * i);
		ret[8 + i] = (uint8_t)(sum.high64 >> 8 * i);
	}
	return true;
}
