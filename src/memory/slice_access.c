/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice_access.c - bytes to and from slices.
 *
 * locate() decides whether and where; the guarded routines touch. There is no view: nothing is looked
 * up, and what was written is marked by what the pin kept.
 */
#include <guestmem/slice_access.h>

#include <errno.h>

#include "memory/access.h"
#include "memory/annotate.h"
#include "sys/guard.h"

/* Where @len bytes at @off are, in this order: the slice's bounds, the pin's, its permissions. */
static int locate(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, uint64_t len,
	uint32_t perms, void **ret_hva)
{
	uintptr_t hva = (uintptr_t)slice->iov_base + off;

	if (len > slice->iov_len || off > slice->iov_len - len)
		return -ERANGE;
	/* Without a length it may be a slice of 0 bytes, which may have no address. */
	if (!pin->map || (len && (len > pin->len || hva - (uintptr_t)pin->hva > pin->len - len)))
		return -EINVAL;
	if (perms & ~pin->perms)
		return -EACCES;
	*ret_hva = (void *)hva;
	return 0;
}

/* @len bytes at a host address of the pin's slice were written. */
static void mark(const struct gm_pin *pin, const void *hva, uint64_t len)
{
	uint64_t from_pin = (uintptr_t)hva - (uintptr_t)pin->hva;

	for (int i = 0; len && i < 2; i++) {
		struct gm_dirty *logs = gm_pin_logs(pin, i);

		if (logs)
			gm_dirty_mark_pinned(logs, pin->gpa[i] + from_pin, len);
	}
}

void gm_slice_mark(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, uint64_t len)
{
	void *hva;

	if (off < slice->iov_len && len > slice->iov_len - off)
		len = slice->iov_len - off;
	if (len && !locate(slice, pin, off, len, GM_PERM_W, &hva))
		mark(pin, hva, len);
}

int gm_slice_read_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, void *buf,
	size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	size_t left;
	void *hva;
	int rc = locate(slice, pin, off, len, GM_PERM_R, &hva);

	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	gm_annotate_write(buf, len);
	left = gm_guard_copy_from(buf, hva, len, &fault);
	return gm_access_end(done, len - left, left ? gm_guard_errno(&fault) : 0);
}

int gm_slice_write_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	size_t left;
	void *hva;
	int rc = locate(slice, pin, off, len, GM_PERM_W, &hva);

	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	gm_annotate_read(buf, len);
	left = gm_guard_copy_to(hva, buf, len, &fault);
	mark(pin, hva, len - left);
	return gm_access_end(done, len - left, left ? gm_guard_errno(&fault) : 0);
}

int gm_slice_fill(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, uint8_t byte,
	size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	size_t left;
	void *hva;
	int rc = locate(slice, pin, off, len, GM_PERM_W, &hva);

	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	left = gm_guard_fill(hva, byte, len, &fault);
	mark(pin, hva, len - left);
	return gm_access_end(done, len - left, left ? gm_guard_errno(&fault) : 0);
}

int gm_slice_copy(const struct iovec *dst, const struct gm_pin *dst_pin, uint64_t dst_off,
	const struct iovec *src, const struct gm_pin *src_pin, uint64_t src_off, size_t len,
	size_t *done)
{
	struct gm_guard_fault fault;
	size_t left;
	void *from;
	void *to;
	int rc = locate(src, src_pin, src_off, len, GM_PERM_R, &from);

	if (!rc)
		rc = locate(dst, dst_pin, dst_off, len, GM_PERM_W, &to);
	if (rc || len == 0)
		return gm_access_end(done, 0, rc);
	left = gm_access_move(to, from, len, &fault);
	mark(dst_pin, to, gm_access_goes_down(to, from, len) ? len : len - left);
	return gm_access_end(done, len - left, left ? gm_guard_errno(&fault) : 0);
}

/* ---- numbers ---- */

static bool is_width(uint32_t size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* Where a number is, which must be aligned if it has an order. */
static int locate_number(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t size, int order, uint32_t perms, void **ret_hva)
{
	int rc = is_width(size) ? locate(slice, pin, off, size, perms, ret_hva) : -EINVAL;

	if (!rc && order != __ATOMIC_RELAXED && (uintptr_t)*ret_hva % size)
		rc = -EINVAL;
	return rc;
}

int gm_slice_load_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t *ret)
{
	uint32_t size = number & ~GM_HOW_SWAP;
	uint64_t value = 0;
	void *hva;
	int rc = locate_number(slice, pin, off, size, order, GM_PERM_R, &hva);

	if (!rc)
		rc = gm_hva_load(hva, size, order, &value);
	if (!rc)
		*ret = gm_how_swap(value, number);
	return rc;
}

int gm_slice_store_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t value)
{
	uint32_t size = number & ~GM_HOW_SWAP;
	void *hva;
	int rc = locate_number(slice, pin, off, size, order, GM_PERM_W, &hva);

	if (!rc)
		rc = gm_hva_store(hva, size, order, gm_how_swap(value, number));
	if (!rc)
		mark(pin, hva, size);
	return rc;
}

static const enum gm_guard_op guard_ops[] = {
	[GM_BACKEND_EXCHANGE] = GM_GUARD_XCHG,
	[GM_BACKEND_FETCH_ADD] = GM_GUARD_ADD,
	[GM_BACKEND_FETCH_AND] = GM_GUARD_AND,
	[GM_BACKEND_FETCH_OR] = GM_GUARD_OR,
	[GM_BACKEND_FETCH_XOR] = GM_GUARD_XOR,
};

int gm_slice_atomic(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, uint32_t op,
	uint32_t size, uint64_t value, uint64_t *seen)
{
	uint64_t was;
	void *hva;
	int rc = op <= GM_BACKEND_CMPXCHG
			 ? locate_number(slice, pin, off, size, __ATOMIC_SEQ_CST, GM_PERM_RW, &hva)
			 : -EINVAL;

	if (rc)
		return rc;
	was = *seen & (UINT64_MAX >> (64 - 8 * size));
	if (op == GM_BACKEND_CMPXCHG)
		rc = gm_hva_cmpxchg(hva, size, &was, value, __ATOMIC_SEQ_CST);
	else
		rc = gm_hva_rmw(guard_ops[op], hva, size, value, &was, __ATOMIC_SEQ_CST);
	if (rc < 0)
		return rc;
	if (rc == 1 || op != GM_BACKEND_CMPXCHG)
		mark(pin, hva, size);
	*seen = was;
	return 0;
}
