/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_chain.c - bytes as a list of ranges and work on it, and as accesses, on real guest memory
 * against plain bytes.
 *
 * The first byte says how many elements there are, the second is 1 if they may be mixed; six are
 * nothing. An element is 16 bytes: address, length (32 bits), flags (32). What follows is work: kind,
 * byte, length (16), address (32) each.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>

#include "chain_model.h"

#define BASE UINT64_C(0x3000)
#define LEN 65536u
#define ELEMS_MAX 16u
#define WORK_MAX 64u

static struct gm_space *space;
static struct gm_reader *reader;
static uint8_t pattern[LEN]; /* what each input finds in memory */
static uint8_t memory[LEN];
static uint8_t back[LEN];
static struct chain_model model;

static void must(bool what)
{
	if (!what)
		abort();
}

/* LEN bytes in three regions, and nothing around. */
static void set_up(void)
{
	static const uint64_t lens[] = {4096, 2 * 4096, LEN - 3 * 4096};
	uint64_t gpa = BASE;

	if (space)
		return;
	must(gm_space_create(NULL, &space, NULL) == 0);
	for (unsigned int i = 0; i < 3; i++) {
		struct gm_block_opts opts = {
			.size = sizeof(opts), .len = lens[i], .flags = i == 1 ? GM_BLOCK_SHARE : 0};
		struct gm_region_desc desc = {.size = sizeof(desc), .gpa = gpa, .backing = &opts};

		must(gm_space_add(space, &desc, NULL, NULL) == 0);
		gpa += lens[i];
	}
	must(gm_reader_create(space, "fuzz", &reader, NULL) == 0);
	for (size_t i = 0; i < LEN; i++)
		pattern[i] = (uint8_t)(i * 7 + i / 256);
}

/* Is a list to be taken? */
static bool is_good(const struct gm_chain_elem *elems, size_t nr, bool mixed)
{
	bool writes = false;

	for (size_t i = 0; i < nr; i++) {
		uint64_t last;

		if (elems[i].flags > 1)
			return false;
		if (elems[i].len && __builtin_add_overflow(elems[i].gpa, elems[i].len - 1, &last))
			return false;
		if (writes && !elems[i].flags && !mixed)
			return false;
		writes = writes || elems[i].flags;
	}
	return true;
}

static bool fits_model(const struct gm_chain_elem *elems, size_t nr)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr; i++)
		sum += elems[i].len;
	return sum <= CHAIN_BYTES;
}

static bool overlaps(const struct gm_chain_elem *elems, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		for (size_t j = 0; j < nr; j++) {
			if (elems[i].flags != elems[j].flags &&
				elems[i].gpa - elems[j].gpa < elems[j].len && elems[i].len)
				return true;
		}
	}
	return false;
}

/* Bytes from @gpa on that are memory. */
static size_t can(uint64_t gpa, size_t len)
{
	if (gpa - BASE >= LEN)
		return 0;
	return len < LEN - (gpa - BASE) ? len : LEN - (gpa - BASE);
}

static void check_access(
	const struct gm_view *view, uint8_t kind, uint8_t byte, size_t len, uint64_t gpa)
{
	static uint8_t buf[65536];
	bool mapped = gpa - BASE < LEN;
	uint8_t *at = mapped ? memory + (gpa - BASE) : buf;
	size_t some = can(gpa, len);
	int want = some < len || !mapped ? -EFAULT : 0;
	size_t done = SIZE_MAX;
	int order = 9;
	int rc;

	switch (kind % 5) {
	case 0:
		rc = gm_read(view, gpa, buf, len, &done);
		must(!some || memcmp(buf, at, some) == 0);
		break;
	case 1:
		memset(buf, byte, len);
		rc = gm_write(view, gpa, buf, len, &done);
		memset(at, byte, some);
		break;
	case 2:
		rc = gm_fill(view, gpa, byte, len, &done);
		memset(at, byte, some);
		break;
	case 3:
		memmove(buf, at, some);
		rc = gm_compare(view, gpa, buf, len, &order, &done);
		must(rc || order == 0);
		break;
	default:
		rc = gm_copy(view, gpa, BASE + byte, len, &done);
		if (some > can(BASE + byte, len))
			some = can(BASE + byte, len);
		want = some < len || !mapped ? -EFAULT : 0;
		memmove(at, memory + byte, some);
		break;
	}
	must(rc == want && done == some);
}

static void check_work(const struct gm_view *view, const uint8_t *data, bool has_chain)
{
	static uint8_t buf[CHAIN_STEP];
	uint16_t raw;
	uint32_t off;
	size_t len;
	const char *wrong = NULL;

	memcpy(&raw, data + 2, sizeof(raw));
	memcpy(&off, data + 4, sizeof(off));
	len = raw % CHAIN_STEP;
	switch (has_chain ? data[0] % 12 : 11) {
	case 0:
	case 1:
		wrong = chain_model_read(&model, view, len, data[0] % 12);
		break;
	case 2:
		memset(buf, data[1], len);
		wrong = chain_model_write(&model, view, buf, 0, len);
		break;
	case 3:
		wrong = chain_model_write(&model, view, NULL, data[1], len);
		break;
	case 4:
	case 5:
		wrong = chain_model_copy(&model, view, len);
		break;
	case 6:
		wrong = chain_model_number(&model, view, off * UINT64_C(0x100000001));
		break;
	case 7:
		wrong = chain_model_split(&model,
			data[1] & 1 ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE, raw, data[1] & 2);
		break;
	default:
		check_access(view, data[0], data[1], raw, off);
		break;
	}
	must(!wrong);
	must(!has_chain || !chain_model_state(&model));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_chain_opts opts = {.size = sizeof(opts)};
	struct gm_chain_elem elems[ELEMS_MAX];
	const struct gm_view *view;
	size_t nr;
	bool good;

	if (size < 8)
		return 0;
	set_up();
	nr = data[0] % (ELEMS_MAX + 1);
	opts.flags = data[1] & 1 ? GM_CHAIN_MIXED : 0;
	data += 8;
	size -= 8;
	if (nr > size / 16)
		nr = size / 16;
	for (size_t i = 0; i < nr; i++, data += 16, size -= 16) {
		uint32_t number;

		elems[i] = (struct gm_chain_elem){0};
		memcpy(&elems[i].gpa, data, 8);
		memcpy(&number, data + 8, 4);
		elems[i].len = number;
		memcpy(&elems[i].flags, data + 12, 4);
	}
	good = gm_chain_init(&model.chain, elems, nr, &opts, NULL) == 0;
	must(good == is_good(elems, nr, opts.flags));
	good = good && fits_model(elems, nr);
	if (good) {
		chain_model_start(&model, elems, nr, memory, BASE);
		model.overlaps = overlaps(elems, nr);
		must(!chain_model_state(&model));
	}
	view = gm_reader_enter(reader);
	memcpy(memory, pattern, LEN);
	must(gm_write(view, BASE, memory, LEN, NULL) == 0);
	for (unsigned int i = 0; i < WORK_MAX && size >= 8; i++, data += 8, size -= 8)
		check_work(view, data, good);
	must(gm_read(view, BASE, back, LEN, NULL) == 0 && memcmp(back, memory, LEN) == 0);
	gm_reader_leave(reader);
	return 0;
}
