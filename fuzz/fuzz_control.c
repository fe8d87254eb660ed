/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_control.c - bytes as a guest's requests, by calls, in batches and as messages, between writes and changes of
 * the map; what each answers and what each page is afterwards against a model that knows single pages.
 *
 * A step has 8 bytes: kind, code, page, number of pages, argument, trouble (misaligned, wraps, far away), two more.
 */
#include <endian.h>
#include <stdlib.h>

#include <guestmem/guestmem.h>

#include "control_model.h"

#define STEP 8u
#define STEPS_MAX 24u
#define BUFFER UINT64_C(0x10000) /* a page of its own for messages */

static struct gm_space *space;
static struct gm_reader *reader;
static struct gm_control *control;
static struct gm_control_door *door;
static uint64_t parts;
static struct model model;

static void must(bool what)
{
	if (!what)
		abort();
}

static void add(uint64_t gpa, uint64_t pages, uint32_t flags, uint32_t kind, uint64_t granule,
	uint64_t *ret_id)
{
	struct gm_block_opts opts = {
		.size = sizeof(opts), .len = pages * MODEL_PAGE, .flags = flags};
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = gpa,
		.backing = &opts,
		.kind = kind,
		.granule = granule};

	must(gm_space_add(space, &desc, ret_id, NULL) == 0);
}

static void set_up(void)
{
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = UINT64_C(1) << 30};
	uint64_t gpa = MODEL_BASE;

	if (space)
		return;
	must(gm_guard_install() == 0);
	must(gm_space_create(&opts, &space, NULL) == 0);
	add(BUFFER, 1, 0, GM_REGION_RAM, 0, NULL);
	add(gpa, MODEL_ANON, 0, GM_REGION_RAM, 0, NULL);
	gpa += MODEL_ANON * MODEL_PAGE;
	add(gpa, MODEL_MEMFD, GM_BLOCK_SHARE, GM_REGION_RAM, 0, NULL);
	gpa += MODEL_MEMFD * MODEL_PAGE;
	add(gpa, MODEL_PARTS, 0, GM_REGION_RAM, MODEL_GRANULE * MODEL_PAGE, &parts);
	gpa += MODEL_PARTS * MODEL_PAGE;
	add(gpa, MODEL_ROM, 0, GM_REGION_ROM, 0, NULL);
	must(gm_reader_create(space, "fuzz", &reader, NULL) == 0);
}

/* ---- bytes ---- */

static uint64_t gpa_of(unsigned int page)
{
	return MODEL_BASE + page * MODEL_PAGE;
}

static int put(unsigned int page, uint8_t byte)
{
	int rc = gm_write_u8(gm_reader_enter(reader), gpa_of(page) + 7 * page % MODEL_PAGE, byte);

	gm_reader_leave(reader);
	return rc;
}

/* What an access must answer. */
static int rc_of(unsigned int page, bool write)
{
	uint8_t prot = model.pages[page].attr.prot;

	if (model.pages[page].unplugged)
		return -EFAULT;
	if (page >= MODEL_RAM)
		return write ? -EACCES : 0;
	if (prot == GM_CONTROL_PROTECT_NONE || (write && prot == GM_CONTROL_PROTECT_R))
		return -EACCES;
	return 0;
}

static void check_page(unsigned int page)
{
	const struct model_page *p = &model.pages[page];
	uint8_t byte = 0;
	int rc = gm_read_u8(gm_reader_enter(reader), gpa_of(page) + 7 * page % MODEL_PAGE, &byte);

	gm_reader_leave(reader);
	must(rc == rc_of(page, false));
	must(rc || byte == p->byte || (p->lazy && byte == 0));
}

static void check_all(void)
{
	struct gm_control_info info = {.size = sizeof(info)};

	for (unsigned int i = 0; i < MODEL_PAGES; i++)
		check_page(i);
	must(gm_control_info(control, &info) == 0);
	must(info.locked == model_locked(&model));
	must(info.pieces == model_pieces(&model));
}

/* ---- requests ---- */

/* What became of it, against the model; on success the model goes on. */
static void settle(const struct gm_control_request *req, int rc, uint32_t stage, uint64_t done)
{
	struct model next;
	int want = model_predict(&model, req, &next);

	must(want == MODEL_ANY ? rc <= 0 : rc == want);
	must((rc == 0) == (stage == GM_CONTROL_DONE));
	if (want < 0)
		must(stage == GM_CONTROL_REFUSED && done == 0);
	if (rc == 0)
		model = next;
}

static struct gm_control_request decode(const uint8_t *at)
{
	static const uint64_t troubles[] = {0, 1, 0x800, UINT64_MAX << 12, UINT64_C(1) << 40};
	struct gm_control_request r = {
		.code = at[1] % 30,
		.addr = gpa_of(at[2] % (MODEL_PAGES + 4)),
		.len = at[3] % 48 * MODEL_PAGE,
		.arg = at[4] % 4,
	};

	if (r.code > 15)
		r.code += GM_CONTROL_OWN - 16;
	if (at[5] > 0xe0)
		r.addr += troubles[at[5] % 5];
	if (at[6] > 0xf0)
		r.len += troubles[at[6] % 5];
	return r;
}

static void do_request(const uint8_t *at)
{
	struct gm_control_request req = decode(at);
	struct gm_control_result ret = {.size = sizeof(ret)};
	int rc = gm_control_request(control, &req, &ret, NULL);

	must(rc == ret.code);
	settle(&req, rc, ret.stage, ret.done);
}

/* The errno that the guest sees. */
static uint32_t errno_of(int rc)
{
	return rc == -EFAULT || rc == -ERANGE ? EINVAL : (uint32_t)-rc;
}

static void do_message(const uint8_t *at)
{
	const struct gm_control_request req = decode(at);
	uint64_t wire[4] = {
		htole64(req.code), htole64(req.addr), htole64(req.len), htole64(req.arg)};
	struct model next;
	bool text_or_batch = req.code == GM_CONTROL_TEXT_NAME || req.code == GM_CONTROL_BATCH;
	int want = model_predict(&model, &req, &next);
	uint32_t code;

	/* Those are looked at elsewhere. */
	if (text_or_batch)
		return;
	must(gm_write(gm_reader_enter(reader), BUFFER + 32, wire, 32, NULL) == 0);
	gm_reader_leave(reader);
	must(gm_control_message(control, BUFFER + 32) == 0);
	must(gm_read(gm_reader_enter(reader), BUFFER + 32, wire, 32, NULL) == 0);
	gm_reader_leave(reader);
	code = (uint32_t)le64toh(wire[0]);
	if (want == MODEL_ANY)
		must(code < 4096);
	else
		must(code == errno_of(want));
	if (want < 0)
		must(le64toh(wire[0]) >> 32 == (uint32_t)req.code && le64toh(wire[2]) == 0);
	if (code == 0)
		model = next;
}

/* Requests one by one must give the same as those that are neighbours do. */
static void do_batch(const uint8_t *at, size_t steps)
{
	struct gm_control_request reqs[6] = {0};
	struct gm_control_result rets[6];
	size_t nr = steps < 6 ? steps : 6;

	for (size_t i = 0; i < nr; i++) {
		reqs[i] = decode(at + i * STEP);
		/* Often a neighbour. */
		if (i && at[i * STEP + 7] & 1) {
			reqs[i].code = reqs[i - 1].code;
			reqs[i].arg = reqs[i - 1].arg;
			reqs[i].addr = reqs[i - 1].addr + reqs[i - 1].len;
		}
		/* Limits count what is asked for at once. */
		if (reqs[i].len > 5 * MODEL_PAGE)
			reqs[i].len = MODEL_PAGE;
		if (reqs[i].code == GM_CONTROL_MLOCK)
			reqs[i].code = GM_CONTROL_MUNLOCK;
		rets[i] = (struct gm_control_result){.size = sizeof(rets[i])};
	}
	gm_control_batch(control, reqs, nr, rets);
	for (size_t i = 0; i < nr; i++)
		settle(&reqs[i], rets[i].code, rets[i].stage, rets[i].done);
}

/* Whatever it is, nothing is done by it but by buffers that were registered: none. */
static void do_register(const uint8_t *at)
{
	struct gm_device_ops ops;
	uint64_t value;
	uint32_t size = 1u << at[1] % 4;
	static const uint32_t words[] = {GM_CONTROL_RESET, GM_CONTROL_REGISTER, GM_CONTROL_READY,
		GM_CONTROL_DISCONNECT, GM_CONTROL_ACK, GM_CONTROL_ERROR, 0x80000000u, 0x80000001u};

	gm_control_door_ops(door, &ops);
	memcpy(&value, at, sizeof(value));
	if (at[3] & 1)
		value = words[at[4] % 8];
	else if (at[3] & 2)
		value = BUFFER + 64;
	must(ops.write(ops.ctx, at[2] % 20, size, value) == 0);
	must(ops.read(ops.ctx, at[2] % 20, size, &value) == 0);
	must(size == 8 || value >> size * 8 == 0);
}

static void set_part(const uint8_t *at)
{
	unsigned int nr = MODEL_PARTS / MODEL_GRANULE;
	unsigned int first = at[1] % nr;
	unsigned int len = 1 + at[2] % (nr - first);
	bool unplug = at[3] & 1;

	must(gm_space_set_part(space, parts, first * MODEL_GRANULE * MODEL_PAGE,
		     len * MODEL_GRANULE * MODEL_PAGE, unplug ? GM_PART_UNPLUGGED : GM_PART_SHARED,
		     NULL) == 0);
	for (unsigned int i = 0; i < len * MODEL_GRANULE; i++) {
		struct model_page *p =
			&model.pages[MODEL_ANON + MODEL_MEMFD + first * MODEL_GRANULE + i];

		if (unplug)
			p->attr = (struct model_attr){0};
		p->unplugged = unplug;
	}
}

static void lift(void)
{
	must(gm_control_lift(control, 0, 0, NULL) == 0);
	for (unsigned int i = 0; i < MODEL_RAM; i++)
		model.pages[i].attr.prot = 0;
}

static size_t step(const uint8_t *at, size_t left)
{
	unsigned int page = at[2] % MODEL_PAGES;
	int rc;

	switch (at[0] % 16) {
	case 0:
		do_message(at);
		break;
	case 1:
		do_batch(at, left);
		return left < 6 ? left : 6;
	case 2:
		set_part(at);
		break;
	case 3:
		lift();
		break;
	case 4:
	case 5:
		do_register(at);
		break;
	case 6:
	case 7:
	case 8:
		rc = put(page, at[4]);
		must(rc == rc_of(page, true));
		if (rc == 0) {
			model.pages[page].byte = at[4];
			model.pages[page].lazy = false;
		}
		break;
	default:
		do_request(at);
		check_page(page);
		break;
	}
	return 1;
}

static void begin(void)
{
	static const struct gm_control_opts opts = {
		.size = sizeof(opts),
		.allow = GM_CONTROL_ALL,
		.max_len = MODEL_MAX_LEN,
		.max_locked = MODEL_MAX_LOCKED,
		.max_pieces = MODEL_MAX_PIECES,
		.numa_nodes = 1,
	};

	must(gm_control_create(space, &opts, &control, NULL) == 0);
	must(gm_control_door_create(control, 2, &door, NULL) == 0);
}

/* Everything is normal again, and what it was. */
static void end(void)
{
	const uint8_t plug_all[STEP] = {0, 0, MODEL_PARTS / MODEL_GRANULE - 1, 0};

	gm_control_door_destroy(door);
	must(gm_control_destroy(control, NULL) == 0);
	set_part(plug_all);
	for (unsigned int i = 0; i < MODEL_RAM; i++) {
		model.pages[i].attr = (struct model_attr){0};
		check_page(i);
		must((!model.pages[i].byte && !model.pages[i].lazy) || put(i, 0) == 0);
		model.pages[i].byte = 0;
		model.pages[i].lazy = false;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t nr = size / STEP < STEPS_MAX ? size / STEP : STEPS_MAX;

	set_up();
	begin();
	for (size_t i = 0; i < nr;)
		i += step(data + i * STEP, nr - i);
	check_all();
	end();
	return 0;
}
