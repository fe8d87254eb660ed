/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice.h - guest memory as host pointers, for system calls and hardware, under a pin.
 *
 * A slice is a struct iovec. It stays valid while the pin that came with it is held, whatever
 * happens to the map meanwhile: a removed region is unmapped when its last pin is given back. The
 * guest can change the bytes at any time, and its host may lose them: use the functions of
 * slice_access.h, or those of access.h, to look at them.
 */
#ifndef GUESTMEM_SLICE_H
#define GUESTMEM_SLICE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_pin - a counted hold on one mapping; all of it is private
 * @map:    NULL when nothing is held
 * @hva:    host address of its slice
 * @len:    bytes of its slice; 0 when nothing is held
 * @cookie: of memory that was mapped for the pin: the backend's (backend.h)
 * @logs:   who is told of what was written: of the space, and of the one behind its IOMMU
 * @gpa:    where its first byte is for them
 * @perms:  as asked
 * @flags:  the library's
 */
struct gm_pin {
	void *map;
	void *hva;
	uint64_t len;
	void *cookie;
	void *logs[2];
	uint64_t gpa[2];
	uint32_t perms;
	uint32_t flags;
};

/*
 * Beside GM_PERM_W: all who write to the slice say what they wrote, by the functions of slice_access.h,
 * gm_slice_mark() or gm_pin_put_written(). Without it dirty logs have all of the slice marked when it is
 * handed out, and once more by gm_pin_put().
 */
#define GM_PIN_EXACT 0x80000000u

/**
 * gm_pin_slice() - pin a contiguous piece of guest memory
 * @view:      borrowed
 * @gpa:       first guest physical address
 * @len:       bytes wanted, not 0
 * @perms:     GM_PERM_* bits that the piece must have; GM_PIN_EXACT
 * @ret_slice: host address and length; the length is less than @len where the region ends
 * @ret_pin:   given back with gm_pin_put()
 *
 * The section may be left; the slice stays valid until the pin is given back. A piece never spans
 * two regions. Memory that is not mapped here is mapped for it. Returns 0, -EINVAL (@len 0),
 * -EFAULT, -EACCES, -ERANGE, -ENOTSUP (devices, their memory, and memory that a backend does not map), or what
 * a backend returned; on failure both outputs are unchanged.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_pin_slice(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slice, struct gm_pin *ret_pin);

/**
 * gm_pin_range() - pin all pieces of a range
 * @view:       borrowed
 * @gpa:        first guest physical address
 * @len:        bytes, not 0
 * @perms:      GM_PERM_* bits that all of it must have; GM_PIN_EXACT
 * @ret_slices: array of @nr slices, may be NULL if @nr is 0
 * @ret_pins:   array of @nr pins
 * @nr:         room in both
 * @ret_needed: number of pieces that the range has, also with -ENOBUFS; a backend may cut its memory
 *              into more
 *
 * All or nothing. Returns 0, -ENOBUFS (more than @nr pieces), and as gm_pin_slice().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_pin_range(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr, size_t *ret_needed);

/**
 * gm_for_each_slice() - pass the pieces of a range to a function, one after the other
 * @view:  borrowed
 * @gpa:   first guest physical address
 * @len:   bytes; with 0 the address is checked
 * @perms: GM_PERM_* bits that each piece must have; GM_PIN_EXACT
 * @fn:    called with the pieces in rising order: @slice and its @pin, valid during the call. Who
 *         wants to keep them copies both and empties *@pin. Returns 0 to go on. Runs in the section: it
 *         must not block
 * @ctx:   passed to @fn
 * @done:  optional: bytes of the pieces that @fn got
 *
 * Nothing is held for the whole of the range, so it may be of any length.
 * Returns 0, what @fn returned if that was not 0, or as gm_pin_slice(): after @fn got what lies in front
 * of the failure.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_for_each_slice(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	int (*fn)(void *ctx, const struct iovec *slice, struct gm_pin *pin), void *ctx,
	uint64_t *done);

/**
 * gm_pin_put() - give a pin back
 * @pin: borrowed, emptied; an empty one is ignored
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_pin_put(struct gm_pin *pin);

/**
 * gm_pin_put_written() - give a pin back, saying how much of its slice was written
 * @pin: borrowed, emptied; an empty one is ignored
 * @len: bytes from its first one on; the rest was not changed
 *
 * gm_pin_put() of a pin that was taken with GM_PERM_W counts all of its slice as written; with
 * GM_PIN_EXACT besides, nothing.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_pin_put_written(struct gm_pin *pin, uint64_t len);

/*
 * Lists of slices: cutting and counting, without a look at memory. Slices of 0 bytes are allowed
 * anywhere. A list that together has more than 2^64 - 1 bytes is -ERANGE everywhere; on failure
 * nothing is changed.
 */

/**
 * gm_slices_len() - bytes of a list of slices
 * @slices:  borrowed, @nr
 * @nr:      number of slices
 * @ret_len: their bytes, on success
 *
 * Returns 0 or -ERANGE.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slices_len(const struct iovec *slices, size_t nr, uint64_t *ret_len);

/**
 * gm_slices_advance() - drop bytes from the front of a list, as after a short readv(2)
 * @slices: the list; is moved to the first slice of which something is left, which is cut in place
 * @nr:     number of slices; becomes what is left
 * @len:    bytes to drop
 *
 * Slices of 0 bytes in front of what is left are dropped too.
 * Returns 0, or -ERANGE (there are fewer).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slices_advance(struct iovec **slices, size_t *nr, uint64_t len);

/**
 * gm_slices_sub() - the part of a list that is [@off, @off + @len)
 * @slices:     borrowed, @nr
 * @nr:         number of slices
 * @off:        first byte
 * @len:        bytes; 0 gives an empty list
 * @ret_slices: array of @room slices, not part of @slices; may be NULL if @room is 0
 * @room:       room in it
 * @ret_nr:     number of slices of the part, also with -ENOBUFS; none of them is of 0 bytes
 *
 * Returns 0, -ERANGE (the part is not in the list), -ENOBUFS (more than @room; @ret_slices is
 * unchanged).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slices_sub(const struct iovec *slices, size_t nr, uint64_t off, uint64_t len,
	struct iovec *ret_slices, size_t room, size_t *ret_nr);

/**
 * gm_slices_split() - cut a list in two
 * @slices: the list; the slice that holds byte @off is cut in two, those behind it move up
 * @nr:     number of slices; one more if one was cut
 * @room:   room in @slices
 * @off:    byte at which the second list is to begin; may be the length of the list
 * @ret_at: number of slices of the first list: the second begins at @slices + @ret_at
 *
 * Returns 0, -ERANGE (@off is more than the length), -ENOBUFS (no room for one more).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slices_split(
	struct iovec *slices, size_t *nr, size_t room, uint64_t off, size_t *ret_at);

#ifdef __cplusplus
}
#endif

#endif
