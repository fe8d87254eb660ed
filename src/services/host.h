/* SPDX-License-Identifier: BSD-3-Clause */
/* host.h - parts of gm_host_probe(); each fills its members of a struct that is all unknown. */
#ifndef GM_SERVICES_HOST_H
#define GM_SERVICES_HOST_H

#include <guestmem/host.h>

/* host_cgroup.c: cgroup_version, cgroup_limit, cgroup_current. */
void gm_host_probe_cgroup(struct gm_host *host);

/* host_pages.c: transparent and explicit huge pages, memory nodes. */
void gm_host_probe_pages(struct gm_host *host);

/* host_access.c: KVM, userfaultfd, pagemap and its relatives, memfd. */
void gm_host_probe_access(struct gm_host *host);

#endif
