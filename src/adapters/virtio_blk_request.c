/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk_request.c - what a chain asks for.
 *
 * A chain is two sequences of bytes, whatever pieces the driver cut them into: a header and data to the device, and
 * data from it with one byte of status at the end. All that is read is read once, and judged in the copy.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include "adapters/virtio_blk.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "core/range.h"

/* Requests, 5.2.6. */
enum {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
};

#define SEG_UNMAP 1u

struct blk_header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct blk_header) == BLK_HEADER_LEN, "5.2.6");

struct blk_wire_seg {
	uint64_t sector;
	uint32_t sectors;
	uint32_t flags;
};
_Static_assert(sizeof(struct blk_wire_seg) == BLK_SEG_LEN, "5.2.6");

static int bad(struct blk_request *r)
{
	r->bad = true;
	return BLK_IOERR;
}

/* Do @sectors from @sector on lie on the disk, at borders that it takes? Fills in bytes. */
static bool place(const struct gm_virtio_blk *blk, uint64_t sector, uint64_t sectors,
	uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t all = __atomic_load_n(&blk->sectors, __ATOMIC_RELAXED);

	if (sector > all || sectors > all - sector)
		return false;
	*ret_off = sector * BLK_SECTOR;
	*ret_len = sectors * BLK_SECTOR;
	return gm_is_aligned(*ret_off, blk->info.align) && gm_is_aligned(*ret_len, blk->info.align);
}

static int look_move(const struct gm_virtio_blk *blk, uint64_t sector, struct blk_request *r)
{
	const bool is_read = r->kind == BLK_READ;
	uint64_t len = is_read ? r->room : gm_chain_left(&r->data, GM_CHAIN_READABLE);
	uint64_t other = is_read ? gm_chain_left(&r->data, GM_CHAIN_READABLE) : r->room;

	if (other || len % BLK_SECTOR)
		return bad(r);
	if (!is_read && (blk->offered & GM_VIRTIO_BLK_F_RO))
		return BLK_IOERR;
	if (!place(blk, sector, len / BLK_SECTOR, &r->off, &r->len))
		return bad(r);
	return r->len ? BLK_WORK : BLK_OK;
}

static int look_seg(
	const struct gm_virtio_blk *blk, const struct blk_wire_seg *wire, struct blk_request *r)
{
	const uint32_t known = r->kind == BLK_ZERO ? SEG_UNMAP : 0;
	struct blk_seg *seg = &r->segs[r->nr_segs];
	uint32_t sectors = le32toh(wire->sectors);

	if (le32toh(wire->flags) & ~known)
		return BLK_UNSUPP;
	if (sectors > blk->discard_sectors)
		return bad(r);
	if (!place(blk, le64toh(wire->sector), sectors, &seg->off, &seg->len))
		return bad(r);
	seg->unmap = le32toh(wire->flags) & SEG_UNMAP;
	r->nr_segs += seg->len > 0;
	return BLK_WORK;
}

static int look_segs(
	const struct gm_virtio_blk *blk, const struct gm_view *view, struct blk_request *r)
{
	struct blk_wire_seg wire[BLK_SEGS];
	uint64_t len = gm_chain_left(&r->data, GM_CHAIN_READABLE);
	int verdict = BLK_WORK;
	int rc;

	if (r->room || len == 0 || len % BLK_SEG_LEN || len > sizeof(wire))
		return bad(r);
	rc = gm_chain_read(&r->data, view, wire, (size_t)len, NULL);
	if (rc)
		return rc == -EAGAIN ? rc : bad(r);
	for (size_t i = 0; i < len / BLK_SEG_LEN && verdict == BLK_WORK; i++)
		verdict = look_seg(blk, &wire[i], r);
	return verdict == BLK_WORK && r->nr_segs == 0 ? BLK_OK : verdict;
}

static int tell_id(
	const struct gm_virtio_blk *blk, const struct gm_view *view, struct blk_request *r)
{
	struct gm_chain to = r->data;
	size_t len = r->room < BLK_ID_LEN ? (size_t)r->room : BLK_ID_LEN;
	int rc;

	if (len == 0)
		return bad(r);
	rc = gm_chain_write(&to, view, blk->serial, len, NULL);
	if (rc)
		return rc == -EAGAIN ? rc : bad(r);
	r->told = len;
	return BLK_OK;
}

int gm_blk_look(struct gm_virtio_blk *blk, const struct gm_chain *chain, const struct gm_view *view,
	struct blk_request *r)
{
	uint64_t room = gm_chain_left(chain, GM_CHAIN_WRITABLE);
	struct blk_header header;
	int rc;

	r->kind = BLK_OTHER;
	r->bad = false;
	r->room = room - 1;
	r->told = 0;
	r->nr_segs = 0;
	r->data = *chain;
	if (room == 0 || gm_chain_split(&r->data, GM_CHAIN_WRITABLE, room - 1, &r->status))
		return -ENOSPC;
	rc = gm_chain_read(&r->data, view, &header, sizeof(header), NULL);
	if (rc)
		return rc == -EAGAIN ? rc : bad(r);
	switch (le32toh(header.type)) {
	case TYPE_IN:
		r->kind = BLK_READ;
		return look_move(blk, le64toh(header.sector), r);
	case TYPE_OUT:
		r->kind = BLK_WRITE;
		return look_move(blk, le64toh(header.sector), r);
	case TYPE_FLUSH:
		r->kind = BLK_FLUSH;
		return blk->offered & GM_VIRTIO_BLK_F_RO ? BLK_OK : BLK_WORK;
	case TYPE_GET_ID:
		r->kind = BLK_ID;
		return tell_id(blk, view, r);
	case TYPE_DISCARD:
		r->kind = BLK_DISCARD;
		return blk->offered & GM_VIRTIO_BLK_F_DISCARD ? look_segs(blk, view, r)
							      : BLK_UNSUPP;
	case TYPE_WRITE_ZEROES:
		r->kind = BLK_ZERO;
		return blk->offered & GM_VIRTIO_BLK_F_WRITE_ZEROES ? look_segs(blk, view, r)
								   : BLK_UNSUPP;
	default:
		return BLK_UNSUPP;
	}
}
