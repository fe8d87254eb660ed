/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_virtq.c - rings that a driver may have written, and work on them, against a reader that follows the
 * specification word by word on a copy.
 *
 * Two bytes of head: flags of the queue (low four bits) and its size (next four); where it begins. Then how many
 * bytes of the memory follow (16 bits, in front of the rings' 2 KiB), these, and work: kind, byte, address (16),
 * value (16) each.
 */
#include <errno.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#define LEN 4096u /* of memory; rings are in the first half */
#define DESC 0u
#define DRIVER 512u
#define DEVICE 1024u
#define ELEMS 40u
#define OUT_MAX 16u
#define WORK_MAX 64u

static struct gm_space *space;
static struct gm_reader *reader;
static uint8_t *memory;

struct seen {
	int rc;
	size_t nr;
	uint16_t id;
	struct gm_chain_elem elems[ELEMS];
};

struct queue {
	struct gm_virtq *vq;
	uint32_t nr;
	uint32_t flags;
	uint16_t seen; /* split: the index is read when what was seen of it is used up */
	uint32_t out;
	uint32_t out_slots;
	struct
	{ /* what is out in its order; given back in the middle it waits if order was promised */
		unsigned int item;
		uint16_t slots;
		bool is_back;
	} fifo[OUT_MAX];
	struct gm_virtq_item items[OUT_MAX];
	struct gm_chain_elem elems[OUT_MAX][ELEMS];
	bool is_out[OUT_MAX];
};

static void must(bool what)
{
	if (!what)
		abort();
}

static void set_up(void)
{
	struct gm_block_opts opts = {.size = sizeof(opts), .len = LEN};
	struct gm_region_desc desc = {.size = sizeof(desc), .backing = &opts};
	struct gm_region_info info = {.size = sizeof(info)};

	if (space)
		return;
	must(gm_space_create(NULL, &space, NULL) == 0);
	must(gm_space_add(space, &desc, NULL, NULL) == 0);
	must(gm_reader_create(space, "fuzz", &reader, NULL) == 0);
	must(gm_space_next(space, 0, &info) == 0);
	memory = info.hva;
}

static uint64_t get(uint64_t at, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint64_t)memory[at + i] << 8 * i;
	return value;
}

/* ---- the specification ---- */

struct d {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t id; /* or next */
};

static struct d get_d(uint64_t at, bool packed)
{
	return (struct d){get(at, 8), (uint32_t)get(at + 8, 4),
		(uint16_t)get(at + (packed ? 14 : 12), 2),
		(uint16_t)get(at + (packed ? 12 : 14), 2)};
}

static bool note(struct seen *s, const struct d *d)
{
	if (s->nr == ELEMS) {
		s->rc = -E2BIG;
		return false;
	}
	s->elems[s->nr++] = (struct gm_chain_elem){
		.gpa = d->addr, .len = d->len, .flags = d->flags & 2 ? GM_CHAIN_WRITE : 0};
	return true;
}

/* Of a table: false if the chain is refused. */
static bool table(struct seen *s, const struct d *t, bool packed)
{
	uint32_t nr = t->len / 16;
	uint32_t at = 0;

	s->rc = -EPROTO;
	if (!t->len || t->len % 16 || nr > 32768 || t->len - 1 > UINT64_MAX - t->addr ||
		(t->flags & 3))
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t gpa = t->addr + 16ull * at;
		struct d d;

		if (gpa > LEN - 16) {
			s->rc = -EFAULT;
			return false;
		}
		d = get_d(gpa, packed);
		if ((d.flags & 4) || !note(s, &d))
			return false;
		if (packed ? i + 1 == nr : !(d.flags & 1))
			return true;
		at = packed ? at + 1 : d.id;
		if (at >= nr)
			return false;
	}
	return false;
}

static bool descriptor(const struct queue *q, struct seen *s, const struct d *d)
{
	s->rc = -EPROTO;
	if (!(d->flags & 4))
		return note(s, d);
	return (q->flags & GM_VIRTQ_INDIRECT) && table(s, d, q->flags & GM_VIRTQ_PACKED);
}

/* Lengths, order, addresses. */
static bool is_chain(const struct seen *s)
{
	uint64_t total = 0;
	bool writes = false;

	for (size_t i = 0; i < s->nr; i++) {
		const struct gm_chain_elem *e = &s->elems[i];

		if (e->len && e->len - 1 > UINT64_MAX - e->gpa)
			return false;
		if (!e->flags && writes)
			return false;
		writes = e->flags;
		total += e->len;
	}
	return total <= UINT64_C(1) << 32;
}

static void see(struct queue *q, uint16_t next)
{
	if (q->seen == next)
		q->seen = (uint16_t)get(DRIVER + 2, 2);
}

static void split(struct queue *q, uint16_t next, struct seen *s)
{
	struct d d;
	uint32_t at;

	see(q, next);
	if (q->seen == next)
		return;
	s->rc = -EPROTO;
	if ((uint16_t)(q->seen - next) > q->nr) {
		q->seen = next;
		return;
	}
	at = (uint32_t)get(DRIVER + 4 + 2 * (next % q->nr), 2);
	if (at >= q->nr)
		return;
	s->id = (uint16_t)at;
	for (uint32_t i = 0; i < q->nr; i++) {
		d = get_d(DESC + 16 * at, false);
		if (!descriptor(q, s, &d))
			return;
		s->rc = -EPROTO;
		if (!(d.flags & 1)) {
			s->rc = is_chain(s) && q->out < q->nr ? 1 : -EPROTO;
			return;
		}
		at = d.id;
		if (at >= q->nr)
			return;
	}
}

static void packed(const struct queue *q, uint32_t base, struct seen *s)
{
	uint32_t at = base & 0x7fff;
	bool lap = base & 0x8000;
	struct d d = get_d(DESC + 16 * at, true);

	if (!(d.flags & 0x80) == lap || !(d.flags & 0x8000) != lap)
		return;
	s->rc = -EPROTO;
	for (uint32_t i = 0; i < q->nr - q->out_slots; i++) {
		d = get_d(DESC + 16 * at, true);
		if (!descriptor(q, s, &d))
			return;
		s->rc = -EPROTO;
		if (!(d.flags & 1)) {
			s->id = d.id;
			s->rc = is_chain(s) && q->out < q->nr ? 1 : -EPROTO;
			return;
		}
		at = at + 1 == q->nr ? 0 : at + 1;
	}
}

/* ---- work ---- */

static void pop(struct queue *q, const struct gm_view *view)
{
	uint32_t base = gm_virtq_base(q->vq);
	struct gm_error err = {0};
	struct seen s = {.rc = 0};
	unsigned int i = 0;
	int rc;

	while (i < OUT_MAX && q->is_out[i])
		i++;
	if (i == OUT_MAX || q->out == OUT_MAX)
		return;
	if (q->flags & GM_VIRTQ_PACKED)
		packed(q, base, &s);
	else
		split(q, (uint16_t)base, &s);
	rc = gm_virtq_pop(q->vq, view, q->elems[i], ELEMS, &q->items[i], &err);
	must(rc == s.rc);
	must(rc >= 0 || (err.code == rc && err.text[0]));
	must(rc == 1 || gm_virtq_base(q->vq) == base);
	if (rc != 1)
		return;
	must(q->items[i].id == s.id);
	must(memcmp(q->elems[i], s.elems, s.nr * sizeof(s.elems[0])) == 0);
	q->is_out[i] = true;
	q->fifo[q->out].item = i;
	q->fifo[q->out].slots = q->items[i].slots;
	q->fifo[q->out++].is_back = false;
	q->out_slots += q->items[i].slots;
	must(gm_virtq_out(q->vq) == q->out);
}

/* Those that wait for nobody leave. */
static void leave(struct queue *q)
{
	uint32_t stay = 0;

	for (uint32_t i = 0; i < q->out; i++) {
		if (q->fifo[i].is_back && (stay == 0 || !(q->flags & GM_VIRTQ_IN_ORDER)))
			q->out_slots -= q->fifo[i].slots;
		else
			q->fifo[stay++] = q->fifo[i];
	}
	q->out = stay;
}

static void give_back(struct queue *q, const struct gm_view *view, unsigned int i, uint32_t len)
{
	if (!q->is_out[i])
		return;
	must(gm_virtq_fill(q->vq, view, &q->items[i], len) == 0);
	q->is_out[i] = false;
	for (uint32_t k = 0; k < q->out; k++) {
		if (q->fifo[k].item == i && !q->fifo[k].is_back) {
			q->fifo[k].is_back = true;
			break;
		}
	}
	leave(q);
	must(gm_virtq_out(q->vq) == q->out);
}

static void work(struct queue *q, const struct gm_view *view, const uint8_t *step)
{
	uint64_t at = (step[2] | (uint64_t)step[3] << 8) % (LEN - 2);

	switch (step[0] % 8) {
	case 0:
	case 1:
		pop(q, view);
		break;
	case 2:
		give_back(q, view, step[1] % OUT_MAX, step[4]);
		break;
	case 3:
		must(gm_virtq_flush(q->vq, view) == 0);
		break;
	case 4:
		must(gm_virtq_wants_call(q->vq, view) >= 0);
		break;
	case 5:
		if ((step[1] & 1) && !(q->flags & GM_VIRTQ_PACKED))
			see(q, (uint16_t)gm_virtq_base(q->vq));
		must(gm_virtq_kicks(q->vq, view, step[1] & 1) >= 0);
		break;
	default:
		memory[at] = step[4];
		memory[at + 1] = step[5];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_virtq_opts opts = {
		.size = sizeof(opts), .desc = DESC, .driver = DRIVER, .device = DEVICE};
	struct queue *q;
	const struct gm_view *view;
	size_t len;

	if (size < 4)
		return 0;
	set_up();
	q = calloc(1, sizeof(*q));
	must(q);
	q->flags = data[0] & 15;
	q->nr = data[0] >> 4;
	if (!(q->flags & GM_VIRTQ_PACKED))
		q->nr = 1u << (q->nr & 3);
	q->nr = q->nr ? q->nr : 5;
	opts.nr = q->nr;
	opts.flags = q->flags;
	len = (data[2] | (size_t)data[3] << 8) % LEN;
	len = len < size - 4 ? len : size - 4;
	memset(memory, 0, LEN);
	memcpy(memory, data + 4, len);
	data += 4 + len;
	size -= 4 + len;
	must(gm_virtq_create(&opts, &q->vq, NULL) == 0);
	view = gm_reader_enter(reader);
	must(gm_virtq_start(q->vq, view, q->flags & GM_VIRTQ_PACKED ? 0x80008000u : 0, NULL) == 0);
	for (unsigned int i = 0; i < WORK_MAX && size >= 6; i++, data += 6, size -= 6)
		work(q, view, data);
	gm_reader_leave(reader);
	gm_virtq_destroy(q->vq);
	free(q);
	return 0;
}
