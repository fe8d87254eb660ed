/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_blk.c - a driver of a virtio block device that runs in a guest, in ring 3 of long mode, without anything else.
 *
 * It keeps as many requests out as there are ways. A way writes its sectors with words that never come twice, reads
 * them back into memory that holds others, and looks at each word. It polls the used ring; kicks and the end are ports.
 * Source: "Virtual I/O Device (VIRTIO) Version 1.2", sections 2.7, 2.8 and 5.2.
 */
#include "guest_blk.h"

#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_AVAIL 0x80u
#define DESC_USED 0x8000u
#define NO_NOTIFY 1u  /* of a split ring's used flags, and an avail ring's */
#define EVENTS_OFF 1u /* of a packed ring's areas */
#define TYPE_IN 0u
#define TYPE_OUT 1u
#define PATIENCE 500u /* looks at the used ring until it yields */
#define FILL UINT64_C(0xeeeeeeeeeeeeeeee)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags; /* of a packed ring: the identifier, then the flags */
	uint16_t next;
};

struct head {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct chain {
	uint64_t addr[BLK_PIECES + 2];
	uint32_t len[BLK_PIECES + 2];
	uint16_t flags[BLK_PIECES + 2];
	uint32_t nr;
};

void entry(struct guest_blk *b);

/* ---- the machine ---- */

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "d"(port) : "memory");
}

static void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "d"(port) : "memory");
}

static void *at(uint64_t gpa)
{
	return (void *)(uintptr_t)gpa;
}

static uint16_t load16(uint64_t gpa)
{
	return __atomic_load_n((const uint16_t *)at(gpa), __ATOMIC_ACQUIRE);
}

static void store16(uint64_t gpa, uint16_t value)
{
	__atomic_store_n((uint16_t *)at(gpa), value, __ATOMIC_RELEASE);
}

static uint32_t draw(struct guest_blk *b, uint32_t below)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return (uint32_t)(b->seed >> 20) % below;
}

static void wrong(struct guest_blk *b, enum blk_wrong what, uint32_t way, uint64_t off,
	uint64_t found, uint64_t wanted)
{
	if (b->what)
		return;
	b->way = way;
	b->off = off;
	b->found = found;
	b->wanted = wanted;
	__atomic_store_n(&b->what, (uint32_t)what, __ATOMIC_RELEASE);
}

/* ---- requests ---- */

/* Whoever takes the other memory away waits for @far_out after it has cleared @extra. */
static uint64_t choose_memory(struct guest_blk *b, struct blk_way *w)
{
	uint64_t extra;

	__atomic_store_n(&b->far_out, b->far_out + 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	extra = __atomic_load_n(&b->extra, __ATOMIC_SEQ_CST);
	w->far = extra != 0 && draw(b, 2);
	b->far += w->far;
	if (!w->far)
		__atomic_store_n(&b->far_out, b->far_out - 1, __ATOMIC_RELEASE);
	return w->far ? extra : b->buffers;
}

/* Where the bytes of a way are to lie: pieces of any length, apart from each other. */
static void cut(struct guest_blk *b, struct blk_way *w, uint32_t way)
{
	uint32_t left = BLK_EACH / 8;
	uint32_t place = 0;
	uint32_t pieces = b->flags & BLK_FIXED ? 1 : 1 + draw(b, BLK_PIECES);

	w->buffer = choose_memory(b, w) + (uint64_t)way * BLK_WAY_LEN;
	w->pieces = 0;
	while (left) {
		uint32_t len = pieces - w->pieces == 1 ? left : 1 + draw(b, left);

		w->at[w->pieces] = (uint16_t)place;
		w->len[w->pieces] = (uint16_t)len;
		w->pieces++;
		place += len + (b->flags & BLK_FIXED ? 0 : draw(b, 600));
		left -= len;
	}
}

/* Fills, or looks at, all words of a way. */
static void each_word(struct guest_blk *b, uint32_t way, int fill)
{
	struct blk_way *w = &b->line[way];
	uint64_t byte = 0;

	for (uint32_t p = 0; p < w->pieces; p++) {
		volatile uint64_t *word = at(w->buffer + 8u * w->at[p]);

		for (uint32_t i = 0; i < w->len[p]; i++, byte += 8) {
			uint64_t wanted = blk_word(b->queue, way, w->version, byte);

			if (fill)
				word[i] = w->writes ? wanted : FILL;
			else if (word[i] != wanted)
				wrong(b, BLK_BYTES, way, byte, word[i], wanted);
		}
	}
}

static void add(struct chain *c, uint64_t addr, uint32_t len, uint16_t flags)
{
	c->addr[c->nr] = addr;
	c->len[c->nr] = len;
	c->flags[c->nr] = flags;
	c->nr++;
}

static void make_chain(struct guest_blk *b, uint32_t way, struct chain *c)
{
	const struct blk_way *w = &b->line[way];
	volatile struct head *head = at(b->heads + way * BLK_HEAD);

	head->type = w->writes ? TYPE_OUT : TYPE_IN;
	head->reserved = 0;
	head->sector = blk_sector(b->queue, way);
	*(volatile uint8_t *)at(b->status + way * BLK_HEAD) = 0xff;
	c->nr = 0;
	add(c, b->heads + way * BLK_HEAD, sizeof(struct head), 0);
	for (uint32_t p = 0; p < w->pieces; p++)
		add(c, w->buffer + 8u * w->at[p], 8u * w->len[p], w->writes ? 0 : DESC_WRITE);
	add(c, b->status + way * BLK_HEAD, 1, DESC_WRITE);
}

/* ---- rings ---- */

static void show_split(struct guest_blk *b, uint32_t way, const struct chain *c)
{
	struct desc *table = at(b->desc);
	uint32_t first = way * BLK_CHAIN;

	for (uint32_t i = 0; i < c->nr; i++) {
		volatile struct desc *d = &table[first + i];

		d->addr = c->addr[i];
		d->len = c->len[i];
		d->flags = (uint16_t)(c->flags[i] | (i + 1 < c->nr ? DESC_NEXT : 0));
		d->next = (uint16_t)(first + i + 1);
	}
	store16(b->avail + 4 + 2u * (b->next_avail % b->nr), (uint16_t)first);
	b->next_avail++;
	store16(b->avail + 2, b->next_avail);
}

/* The first descriptor becomes valid last. */
static void show_packed(struct guest_blk *b, uint32_t way, const struct chain *c)
{
	struct desc *ring = at(b->desc);
	uint16_t first = b->next_avail;
	uint16_t first_flags = 0;

	for (uint32_t i = 0; i < c->nr; i++) {
		volatile struct desc *d = &ring[b->next_avail];
		uint16_t flags = (uint16_t)(c->flags[i] | (i + 1 < c->nr ? DESC_NEXT : 0) |
					    (b->avail_wrap ? DESC_AVAIL : DESC_USED));

		d->addr = c->addr[i];
		d->len = c->len[i];
		d->flags = (uint16_t)way; /* the identifier stands in front of the flags */
		if (i == 0)
			first_flags = flags;
		else
			d->next = flags;
		if (++b->next_avail == b->nr) {
			b->next_avail = 0;
			b->avail_wrap = !b->avail_wrap;
		}
	}
	store16(b->desc + 16u * first + 14, first_flags);
}

static void kick(struct guest_blk *b)
{
	uint16_t flags;

	/* What was shown, before the device's wish is looked at. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	flags = load16(b->flags & BLK_PACKED ? b->used + 2 : b->used);
	if ((b->flags & BLK_PACKED ? flags & 3u : flags) & NO_NOTIFY)
		return;
	b->kicks++;
	out16(GUEST_BLK_KICK, (uint16_t)b->queue);
}

/* Is something back? Its number, and what the device says it wrote. */
static int next_used(struct guest_blk *b, uint32_t *ret_id, uint32_t *ret_len)
{
	const volatile uint32_t *elem;

	if (b->flags & BLK_PACKED) {
		uint64_t gpa = b->desc + 16u * b->next_used;
		uint16_t flags = load16(gpa + 14);

		if (!(flags & DESC_AVAIL) != !b->used_wrap || !(flags & DESC_USED) != !b->used_wrap)
			return 0;
		*ret_len = *(volatile uint32_t *)at(gpa + 8);
		*ret_id = load16(gpa + 12);
		return 1;
	}
	if (load16(b->used + 2) == b->next_used)
		return 0;
	elem = at(b->used + 4 + 8u * (b->next_used % b->nr));
	*ret_id = elem[0] % BLK_CHAIN ? UINT32_MAX : elem[0] / BLK_CHAIN;
	*ret_len = elem[1];
	return 1;
}

static void step_used(struct guest_blk *b, uint32_t descs)
{
	if (!(b->flags & BLK_PACKED)) {
		b->next_used++;
		return;
	}
	b->next_used = (uint16_t)(b->next_used + descs);
	if (b->next_used >= b->nr) {
		b->next_used = (uint16_t)(b->next_used - b->nr);
		b->used_wrap = !b->used_wrap;
	}
}

/* ---- work ---- */

static void send(struct guest_blk *b, uint32_t way)
{
	struct blk_way *w = &b->line[way];
	struct chain c;

	if (b->flags & BLK_FIXED)
		w->writes = way & 1;
	else
		w->writes = !w->writes;
	cut(b, w, way);
	w->version += w->writes;
	each_word(b, way, 1);
	make_chain(b, way, &c);
	w->out = 1;
	b->out++;
	if (b->flags & BLK_PACKED)
		show_packed(b, way, &c);
	else
		show_split(b, way, &c);
	kick(b);
}

static void take(struct guest_blk *b, uint32_t way, uint32_t len)
{
	struct blk_way *w = &b->line[way];
	uint8_t status = *(volatile uint8_t *)at(b->status + way * BLK_HEAD);

	w->out = 0;
	b->out--;
	if (status == 0 && len == (w->writes ? 1 : BLK_EACH + 1)) {
		if (!w->writes)
			each_word(b, way, 0);
	} else if (status == 1 && b->flags & BLK_ERRORS) {
		b->failed |= 1u << way;
	} else {
		wrong(b, BLK_STATUS, way, len, status, 0);
	}
	__atomic_store_n(&b->far_out, b->far_out - w->far, __ATOMIC_RELEASE);
	__atomic_store_n(&b->done, b->done + 1, __ATOMIC_RELEASE);
}

/* Takes what is back; returns the number. */
static uint32_t collect(struct guest_blk *b, int goes_on)
{
	uint32_t nr = 0;
	uint32_t way;
	uint32_t len;

	while (!b->what && next_used(b, &way, &len)) {
		if (way >= b->ways || !b->line[way].out) {
			wrong(b, BLK_STRAY, way, b->next_used, way, len);
			return nr;
		}
		step_used(b, b->line[way].pieces + 2u);
		take(b, way, len);
		nr++;
		if (goes_on && !(b->failed >> way & 1) &&
			(!b->count || b->done + b->out < b->count))
			send(b, way);
	}
	return nr;
}

static int goes_on(const struct guest_blk *b)
{
	return !__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE) && (!b->count || b->done < b->count);
}

__attribute__((section(".text.entry"), used)) void entry(struct guest_blk *b)
{
	uint32_t looks = 0;

	/* No interrupts. */
	store16(b->flags & BLK_PACKED ? b->avail + 2 : b->avail,
		b->flags & BLK_PACKED ? EVENTS_OFF : NO_NOTIFY);
	for (uint32_t way = 0; way < b->ways && goes_on(b); way++) {
		if (!b->line[way].out && (!b->count || b->done + b->out < b->count))
			send(b, way);
	}
	while (!b->what && (b->out || goes_on(b))) {
		if (collect(b, goes_on(b))) {
			looks = 0;
		} else if (++looks == PATIENCE) {
			looks = 0;
			b->yields++;
			out8(GUEST_BLK_YIELD, 0);
		} else {
			__asm__ volatile("pause");
		}
	}
	for (;;)
		out8(GUEST_BLK_DONE, 0);
}
