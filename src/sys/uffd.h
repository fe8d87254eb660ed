/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.h - ways to fill memory through a userfaultfd. */
#ifndef GM_SYS_UFFD_H
#define GM_SYS_UFFD_H

/* See gm_sys_uffd_fill(). */
enum gm_uffd_fill {
	GM_UFFD_COPY,     /* UFFDIO_COPY from an address of ours */
	GM_UFFD_ZERO,     /* UFFDIO_ZEROPAGE */
	GM_UFFD_CONTINUE, /* UFFDIO_CONTINUE: what the file has there */
	GM_UFFD_POISON,   /* UFFDIO_POISON: SIGBUS for whoever touches it */
};

#endif
