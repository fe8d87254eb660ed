/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_driver.c - the driver's side of a virtqueue.
 *
 * Each chain that is out has an id: of a split queue its first descriptor, of a packed one any that is free. What is
 * known of it stands in an array by id, and never in memory that the device can write.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <endian.h>
#include <errno.h>
#include <guestmem/virtq_driver.h>
#include <inttypes.h>

#include "adapters/virtq.h"
#include "core/bytes.h"
#include "core/error.h"
#include "sys/sys.h"

#define NONE UINT16_MAX

/* A chain, by its id; of a split queue also the list of free descriptors, by @next. */
struct chain {
	void *token;
	uint64_t room; /* bytes that the device may write */
	uint16_t next;
	uint16_t slots;
};

struct gm_virtq_driver {
	struct gm_virtq_opts o;
	struct gm_cache desc;
	struct gm_cache driver;
	struct gm_cache device;
	struct chain *chains;
	uint16_t free;    /* the first that is free, or NONE */
	uint32_t nr_free; /* descriptors */
	uint16_t next;    /* split: index; packed: entry */
	bool next_wrap;
	uint16_t shown;
	bool shown_wrap;
	uint16_t first_flags; /* packed: of the first that is not shown */
	uint16_t back;        /* where the device writes next */
	bool back_wrap;
	uint64_t nr_added; /* descriptors of the ring since the start */
	uint64_t nr_shown;
};

/* ---- life ---- */

static int map(struct gm_cache *cache, const struct gm_view *view, uint64_t gpa, uint64_t len,
	struct gm_error *err)
{
	int rc = gm_cache_init(cache, view, gpa, len, GM_PERM_R | GM_PERM_W);

	if (!rc)
		rc = gm_fill(view, gpa, 0, len, NULL);
	return rc ? gm_error_set(err, rc, gpa, len,
			    "queue: its area at 0x%" PRIx64 ", %" PRIu64
			    " bytes, cannot be used: %s",
			    gpa, len, gm_error_word(rc))
		  : 0;
}

int gm_virtq_driver_create(const struct gm_virtq_opts *opts, const struct gm_view *view,
	struct gm_virtq_driver **ret_driver, struct gm_error *err)
{
	struct gm_virtq_opts o = {0};
	struct gm_virtq_driver *d;
	bool packed;
	uint64_t nr;
	int rc = gm_virtq_opts_take(opts, &o, err);

	if (rc)
		return rc;
	packed = o.flags & GM_VIRTQ_PACKED;
	d = gm_sys_alloc(sizeof(*d));
	if (d) {
		d->o = o;
		d->chains = gm_sys_alloc_array(o.nr, sizeof(*d->chains));
	}
	if (!d || !d->chains) {
		gm_sys_free(d);
		return gm_error_set(err, -ENOMEM, 0, 0, "queue: no memory for it");
	}
	nr = d->o.nr;
	rc = map(&d->desc, view, d->o.desc, nr * VIRTQ_DESC_SIZE, err);
	if (!rc)
		rc = map(&d->driver, view, d->o.driver, packed ? 4 : 6 + 2 * nr, err);
	if (!rc)
		rc = map(&d->device, view, d->o.device, packed ? 4 : 6 + 8 * nr, err);
	if (rc) {
		gm_virtq_driver_destroy(d);
		return rc;
	}
	for (uint32_t i = 0; i < d->o.nr; i++)
		d->chains[i].next = (uint16_t)(i + 1 < d->o.nr ? i + 1 : NONE);
	d->nr_free = d->o.nr;
	d->next_wrap = true;
	d->shown_wrap = true;
	d->back_wrap = true;
	*ret_driver = d;
	return 0;
}

void gm_virtq_driver_destroy(struct gm_virtq_driver *driver)
{
	if (!driver)
		return;
	gm_sys_free(driver->chains);
	gm_sys_free(driver);
}

/* ---- adding ---- */

static void encode(uint8_t *bytes, const struct virtq_desc *desc, bool packed)
{
	gm_put_le(bytes, 8, desc->addr);
	gm_put_le(bytes + 8, 4, desc->len);
	gm_put_le(bytes + (packed ? 12 : 14), 2, desc->id);
	gm_put_le(bytes + (packed ? 14 : 12), 2, desc->flags);
}

static int write_table(const struct gm_virtq_driver *d, const struct gm_view *view,
	const struct gm_chain_elem *elems, size_t nr, uint64_t table)
{
	const bool packed = d->o.flags & GM_VIRTQ_PACKED;
	int rc = 0;

	for (size_t i = 0; i < nr && !rc; i++) {
		struct virtq_desc desc = {.addr = elems[i].gpa, .len = (uint32_t)elems[i].len};
		uint8_t bytes[VIRTQ_DESC_SIZE];

		if (elems[i].flags & GM_CHAIN_WRITE)
			desc.flags = VIRTQ_DESC_WRITE;
		if (!packed && i + 1 < nr) {
			desc.flags |= VIRTQ_DESC_NEXT;
			desc.id = (uint16_t)(i + 1);
		}
		encode(bytes, &desc, packed);
		rc = gm_write(view, table + i * VIRTQ_DESC_SIZE, bytes, sizeof(bytes), NULL);
	}
	return rc;
}

static int write_split(struct gm_virtq_driver *d, const struct gm_view *view, uint16_t index,
	const struct virtq_desc *desc)
{
	uint8_t bytes[VIRTQ_DESC_SIZE];

	encode(bytes, desc, false);
	return gm_cache_write(
		&d->desc, view, (uint64_t)index * VIRTQ_DESC_SIZE, bytes, sizeof(bytes), NULL);
}

static int add_split(struct gm_virtq_driver *d, const struct gm_view *view,
	const struct virtq_desc *descs, size_t nr)
{
	uint16_t at = d->free;
	int rc = 0;

	for (size_t i = 0; i < nr && !rc; i++) {
		struct virtq_desc desc = descs[i];

		desc.id = i + 1 < nr ? d->chains[at].next : 0;
		rc = write_split(d, view, at, &desc);
		at = d->chains[at].next;
	}
	if (!rc)
		rc = gm_cache_write_le16(
			&d->driver, view, 4 + 2ull * (d->next & (d->o.nr - 1)), d->free);
	if (!rc)
		d->next++;
	return rc;
}

/* All but the flags of the first that is not shown, which show them. */
static int add_packed(struct gm_virtq_driver *d, const struct gm_view *view,
	const struct virtq_desc *descs, size_t nr)
{
	const bool is_first = d->nr_added == d->nr_shown;
	uint16_t first_flags = 0;
	uint16_t at = d->next;
	bool lap = d->next_wrap;

	for (size_t i = 0; i < nr; i++) {
		struct virtq_desc desc = descs[i];
		uint8_t bytes[VIRTQ_DESC_SIZE];
		size_t len = sizeof(bytes);
		int rc;

		desc.id = d->free;
		desc.flags |= lap ? VIRTQ_DESC_AVAIL : VIRTQ_DESC_USED;
		encode(bytes, &desc, true);
		if (i == 0 && is_first) {
			first_flags = desc.flags;
			len -= 2;
		}
		rc = gm_cache_write(
			&d->desc, view, (uint64_t)at * VIRTQ_DESC_SIZE, bytes, len, NULL);
		if (rc)
			return rc;
		gm_virtq_forward(&d->o, &at, &lap, 1);
	}
	if (is_first)
		d->first_flags = first_flags;
	d->next = at;
	d->next_wrap = lap;
	return 0;
}

static int check_elems(const struct gm_chain_elem *elems, size_t nr, uint64_t *ret_room)
{
	*ret_room = 0;
	for (size_t i = 0; i < nr; i++) {
		if (elems[i].len > UINT32_MAX || (elems[i].flags & ~GM_CHAIN_WRITE))
			return -EINVAL;
		if (elems[i].flags & GM_CHAIN_WRITE)
			*ret_room += elems[i].len;
	}
	return 0;
}

/* The descriptors of the ring for a chain: its elements, or one with a table. */
static int describe(struct gm_virtq_driver *d, const struct gm_view *view,
	const struct gm_chain_elem *elems, size_t nr, uint64_t table, struct virtq_desc *descs)
{
	if (table) {
		descs[0] = (struct virtq_desc){.addr = table,
			.len = (uint32_t)(nr * VIRTQ_DESC_SIZE),
			.flags = VIRTQ_DESC_INDIRECT};
		return write_table(d, view, elems, nr, table);
	}
	for (size_t i = 0; i < nr; i++)
		descs[i] = (struct virtq_desc){.addr = elems[i].gpa,
			.len = (uint32_t)elems[i].len,
			.flags = (uint16_t)((elems[i].flags & GM_CHAIN_WRITE ? VIRTQ_DESC_WRITE
									     : 0) |
					    (i + 1 < nr ? VIRTQ_DESC_NEXT : 0))};
	return 0;
}

int gm_virtq_driver_add(struct gm_virtq_driver *driver, const struct gm_view *view,
	const struct gm_chain_elem *elems, size_t nr, uint64_t table, void *token)
{
	struct gm_virtq_driver *d = driver;
	const bool packed = d->o.flags & GM_VIRTQ_PACKED;
	const uint16_t id = d->free;
	size_t slots = table ? 1 : nr;
	struct virtq_desc descs[64];
	uint64_t room;
	int rc = check_elems(elems, nr, &room);

	if (rc || nr == 0 || nr > GM_VIRTQ_NR_MAX || !token ||
		(table && !(d->o.flags & GM_VIRTQ_INDIRECT)) ||
		slots > sizeof(descs) / sizeof(descs[0]))
		return -EINVAL;
	if (slots > d->nr_free)
		return -ENOSPC;
	rc = describe(d, view, elems, nr, table, descs);
	if (!rc)
		rc = packed ? add_packed(d, view, descs, slots) : add_split(d, view, descs, slots);
	if (rc)
		return rc;
	/* A split chain takes its descriptors off the list, a packed one an id. */
	for (size_t i = packed ? slots - 1 : 0; i < slots; i++)
		d->free = d->chains[d->free].next;
	d->chains[id].token = token;
	d->chains[id].room = room;
	d->chains[id].slots = (uint16_t)slots;
	d->nr_free -= (uint32_t)slots;
	d->nr_added += slots;
	return 0;
}

/* ---- showing ---- */

static int wants_kick_split(struct gm_virtq_driver *d, const struct gm_view *view, uint16_t new)
{
	uint16_t value;
	int rc;

	if (d->o.flags & GM_VIRTQ_EVENT) {
		rc = gm_cache_read_le16(&d->device, view, 4 + 8ull * d->o.nr, &value);
		return rc ? rc : gm_virtq_is_due((uint16_t)(d->shown - value), new);
	}
	rc = gm_cache_read_le16(&d->device, view, 0, &value);
	return rc ? rc : !(value & 1);
}

int gm_virtq_driver_show(struct gm_virtq_driver *driver, const struct gm_view *view)
{
	struct gm_virtq_driver *d = driver;
	const bool packed = d->o.flags & GM_VIRTQ_PACKED;
	uint64_t slots = d->nr_added - d->nr_shown;
	uint16_t chains = (uint16_t)(d->next - d->shown); /* split */
	int rc;

	if (slots == 0)
		return 0;
	if (packed)
		rc = gm_cache_store_u16(&d->desc, view, (uint64_t)d->shown * VIRTQ_DESC_SIZE + 14,
			__ATOMIC_RELEASE, htole16(d->first_flags));
	else
		rc = gm_cache_store_u16(&d->driver, view, 2, __ATOMIC_RELEASE, htole16(d->next));
	if (rc)
		return rc;
	d->nr_shown = d->nr_added;
	d->shown = d->next;
	d->shown_wrap = d->next_wrap;
	virtq_fence();
	return packed ? gm_virtq_is_asked(&d->device, view, &d->o, d->shown, d->shown_wrap, slots)
		      : wants_kick_split(d, view, chains);
}

/* ---- taking ---- */

/* An entry that is back: 1, 0, or an error. */
static int look_split(
	struct gm_virtq_driver *d, const struct gm_view *view, uint32_t *ret_id, uint32_t *ret_len)
{
	uint16_t index;
	uint64_t entry;
	int rc = gm_cache_load_u16(&d->device, view, 2, __ATOMIC_ACQUIRE, &index);

	if (rc)
		return rc;
	if (le16toh(index) == d->back)
		return 0;
	rc = gm_cache_read_le64(&d->device, view, 4 + 8ull * (d->back & (d->o.nr - 1)), &entry);
	*ret_id = (uint32_t)entry;
	*ret_len = (uint32_t)(entry >> 32);
	return rc ? rc : 1;
}

static int look_packed(
	struct gm_virtq_driver *d, const struct gm_view *view, uint32_t *ret_id, uint32_t *ret_len)
{
	uint64_t off = (uint64_t)d->back * VIRTQ_DESC_SIZE;
	uint16_t flags;
	uint64_t entry;
	int rc = gm_cache_load_u16(&d->desc, view, off + 14, __ATOMIC_ACQUIRE, &flags);

	if (rc)
		return rc;
	flags = le16toh(flags);
	if (!(flags & VIRTQ_DESC_USED) != !d->back_wrap ||
		!(flags & VIRTQ_DESC_AVAIL) != !d->back_wrap)
		return 0;
	rc = gm_cache_read_le64(&d->desc, view, off + 8, &entry);
	*ret_id = (uint32_t)(entry >> 32) & UINT16_MAX;
	*ret_len = (uint32_t)entry;
	return rc ? rc : 1;
}

static int look(
	struct gm_virtq_driver *d, const struct gm_view *view, uint32_t *ret_id, uint32_t *ret_len)
{
	return d->o.flags & GM_VIRTQ_PACKED ? look_packed(d, view, ret_id, ret_len)
					    : look_split(d, view, ret_id, ret_len);
}

int gm_virtq_driver_take(struct gm_virtq_driver *driver, const struct gm_view *view,
	void **ret_token, uint32_t *ret_len, struct gm_error *err)
{
	struct gm_virtq_driver *d = driver;
	const bool packed = d->o.flags & GM_VIRTQ_PACKED;
	struct chain *chain;
	uint32_t len = 0;
	uint32_t id = 0;
	uint16_t last;
	int rc = look(d, view, &id, &len);

	if (rc < 0)
		return gm_error_set(
			err, rc, d->o.device, 0, "queue: it cannot be read: %s", gm_error_word(rc));
	if (rc == 0)
		return 0;
	if (id >= d->o.nr || !d->chains[id].token)
		return gm_error_set(err, -EPROTO, 0, 0,
			"queue: the device gives back %" PRIu32 ", which it does not have", id);
	chain = &d->chains[id];
	if (len > chain->room)
		return gm_error_set(err, -EPROTO, 0, 0,
			"queue: the device says that it wrote %" PRIu32
			" bytes where there was room for %" PRIu64,
			len, chain->room);
	*ret_token = chain->token;
	*ret_len = len;
	chain->token = NULL;
	last = (uint16_t)id;
	for (uint16_t i = 1; i < chain->slots && !packed; i++)
		last = d->chains[last].next;
	d->chains[last].next = d->free;
	d->free = (uint16_t)id;
	d->nr_free += chain->slots;
	if (packed)
		gm_virtq_forward(&d->o, &d->back, &d->back_wrap, chain->slots);
	else
		d->back++;
	return 1;
}

int gm_virtq_driver_calls(struct gm_virtq_driver *driver, const struct gm_view *view, bool on)
{
	struct gm_virtq_driver *d = driver;
	const bool event = d->o.flags & GM_VIRTQ_EVENT;
	uint32_t ignored;
	int rc = 0;

	if (d->o.flags & GM_VIRTQ_PACKED)
		rc = gm_virtq_ask(&d->driver, view, &d->o, d->back, d->back_wrap, on);
	else if (!event)
		rc = gm_cache_write_le16(&d->driver, view, 0, (uint16_t)!on);
	else if (on)
		rc = gm_cache_write_le16(&d->driver, view, 4 + 2ull * d->o.nr, d->back);
	if (rc || !on)
		return rc;
	virtq_fence();
	return look(d, view, &ignored, &ignored);
}
