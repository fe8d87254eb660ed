/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.h - opening a userfaultfd, and ways to fill memory through one. */
#ifndef GM_SYS_UFFD_H
#define GM_SYS_UFFD_H

/* See gm_sys_uffd_fill(). */
enum gm_uffd_fill {
	GM_UFFD_COPY,     /* UFFDIO_COPY from an address of ours */
	GM_UFFD_ZERO,     /* UFFDIO_ZEROPAGE */
	GM_UFFD_CONTINUE, /* UFFDIO_CONTINUE: what the file has there */
	GM_UFFD_MOVE,     /* UFFDIO_MOVE: the pages at an address of ours, which are gone there */
	GM_UFFD_POISON,   /* UFFDIO_POISON: SIGBUS for whoever touches it */
	GM_UFFD_COPY_WP, /* GM_UFFD_COPY and GM_UFFD_CONTINUE, write-protected from the first moment on */
	GM_UFFD_CONTINUE_WP,
};

/*
 * A userfaultfd with O_NONBLOCK and UFFD_USER_MODE_ONLY as in @flags: by the device, else by the system call. The
 * caller's, or a negative errno value.
 */
int gm_uffd_open(int flags);

/* What to do about that failure: text behind an error's word, "" if nothing is known. */
const char *gm_uffd_hint(int rc);

#endif
