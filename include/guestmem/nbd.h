/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd.h - a source of pages behind a network block device: nbdkit and qemu-nbd serve Ceph, S3, HTTP and qcow2 by it.
 *
 * Requests go over several connections and are answered in any order. A connection that is lost is made again, and
 * what was under way on it is asked again: a request ends with its bytes, or with an error after the time that it is
 * allowed.
 */
#ifndef GUESTMEM_NBD_H
#define GUESTMEM_NBD_H

#include <guestmem/source.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_NBD_CONNECTIONS_MAX 16u

/* Do not ask which parts are zeros: all is GM_SOURCE_REMOTE. */
#define GM_NBD_NO_EXTENTS 0x1u

/**
 * struct gm_nbd_opts - an export; zero means default
 * @size:        sizeof(struct gm_nbd_opts)
 * @uri:         of the server and the export (nbd://HOST/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds:// with TLS)
 * @flags:       GM_NBD_* bits
 * @connections: to the server, at most GM_NBD_CONNECTIONS_MAX; 0 = 4. One if the server says that they do not agree
 * @connect_ms:  how long opening may take; 0 = 10 s
 * @retry_ms:    how long a lost server is waited for, from the loss on; 0 = 10 s
 * @request_ms:  how long a server may leave a request without an answer before its connection counts as lost; 0 = 30 s
 */
struct gm_nbd_opts {
	size_t size;
	const char *uri;
	uint32_t flags;
	uint32_t connections;
	uint32_t connect_ms;
	uint32_t retry_ms;
	uint32_t request_ms;
	uint32_t reserved;
};

/**
 * gm_source_nbd() - opens an export for reading
 * @opts:       borrowed for the call
 * @ret_source: the caller's. It waits: requests, a step and an fd (source.h)
 * @err:        optional
 *
 * It looks up names and connects before it returns. Requests begin and end on borders of the server's smallest block.
 * A request fails with -EIO and the like if the server says so, with -ETIMEDOUT if a lost server does not come back in
 * time, with -ESTALE if what comes back has another size.
 *
 * Return: 0, -EINVAL, -ETIMEDOUT, -ENOMEM, what the connection or the server failed with; -ENOTSUP in a build without
 * libnbd.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_source_nbd(
	const struct gm_nbd_opts *opts, struct gm_source **ret_source, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
