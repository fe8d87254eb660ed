/* SPDX-License-Identifier: BSD-3-Clause */
/* host_cgroup.c - the memory limit of the control group this process is in. */
#include "core/error.h"
#include "memory/cgroup.h"
#include "services/host.h"

void gm_host_probe_cgroup(struct gm_host *host)
{
	struct gm_cgroup group;

	gm_cgroup_read(&group);
	host->cgroup_version = group.version;
	host->cgroup_limit = group.limit;
	host->cgroup_current = group.current;
	gm_copy_name(host->cgroup_file, sizeof(host->cgroup_file), group.file);
}
