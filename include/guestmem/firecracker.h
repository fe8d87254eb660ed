/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * firecracker.h - the handshake by which Firecracker hands the memory of a restored guest to a page-fault handler.
 *
 * Firecracker connects to a Unix stream socket and sends one message: a JSON array with an object for each piece of
 * guest memory, and the userfaultfd with its first byte. Nothing else is ever sent. Source: Firecracker's documents
 * "handling-page-faults-on-snapshot-resume.md" and its structure GuestRegionUffdMapping (versions 1.0 to 1.14).
 *
 * The peer is not trusted: whatever it sends, the answer is a list that is in order, or an error, and no descriptor is
 * left open.
 */
#ifndef GUESTMEM_FIRECRACKER_H
#define GUESTMEM_FIRECRACKER_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_FIRECRACKER_TEXT_MAX 65536u   /* bytes of a message; longer ones are refused */
#define GM_FIRECRACKER_MAPPINGS_MAX 512u /* pieces in one */

/**
 * struct gm_firecracker_mapping - a piece of guest memory in the monitor's address space
 * @hva:       first host address there ("base_host_virt_addr"), on a border of @page_size
 * @len:       bytes ("size"), whole pages
 * @offset:    of its first byte in the memory file ("offset")
 * @page_size: bytes ("page_size", or "page_size_kib", which older versions sent and which is bytes too): 4 KiB or 2 MiB
 *             as of today; any power of two from 4 KiB to 1 GiB is taken
 */
struct gm_firecracker_mapping {
	uint64_t hva;
	uint64_t len;
	uint64_t offset;
	uint64_t page_size;
};

/**
 * gm_firecracker_decode() - the mappings of a message
 * @text:   JSON, of @len bytes; what follows the array is refused
 * @len:    bytes, at most GM_FIRECRACKER_TEXT_MAX
 * @ret:    room for @max mappings; on success by rising @hva, none over another; else undefined
 * @max:    mappings
 * @ret_nr: their number, at least 1
 * @err:    optional: names the mapping and the member
 *
 * Members that are not known are left alone. Without a page size it is 4 KiB.
 * Return: 0; -EPROTO (no such message), -EMSGSIZE (too long, or more than @max mappings), -ENOMEM; -ENOTSUP in a build
 * without jansson.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_firecracker_decode(const char *text, size_t len, struct gm_firecracker_mapping *ret,
	size_t max, size_t *ret_nr, struct gm_error *err);

/**
 * gm_firecracker_recv() - receives the message
 * @sock:     connected Unix stream socket, borrowed. It waits as long as SO_RCVTIMEO says
 * @ret:      room for @max mappings
 * @max:      mappings
 * @ret_nr:   their number
 * @ret_uffd: the userfaultfd: the caller's on success
 * @err:      optional
 *
 * Return: as gm_firecracker_decode(), and -EPIPE (the monitor closed the connection before all was there), -EAGAIN (the
 * deadline has passed), -EPROTO (not exactly one descriptor, not with the first byte, or no userfaultfd), or what
 * recvmsg(2) failed with.
 * Threads: one for a socket. Since: 0.1.
 */
GM_API int gm_firecracker_recv(int sock, struct gm_firecracker_mapping *ret, size_t max,
	size_t *ret_nr, int *ret_uffd, struct gm_error *err);

/**
 * gm_firecracker_look() - looks at the message, and leaves it where it is
 * @sock:     connected Unix socket, borrowed. It does not wait
 * @ret:      room for @max mappings
 * @max:      mappings
 * @ret_nr:   their number
 * @ret_uffd: the userfaultfd: the caller's on success
 * @err:      optional
 *
 * Whoever holds a duplicate of the socket can look again: the message is there until the last one is closed. So a
 * handler that dies after this has lost nothing. Return: as gm_firecracker_recv(); -EAGAIN: the message is not whole
 * yet. Threads: one for a socket. Since: 0.1.
 */
GM_API int gm_firecracker_look(int sock, struct gm_firecracker_mapping *ret, size_t max,
	size_t *ret_nr, int *ret_uffd, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
