/* SPDX-License-Identifier: BSD-3-Clause */
/* run_measure.c - what the host has to say about a run. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "run.h"

/* A line "NAME:  NUMBER kB" of a file, in bytes; UINT64_MAX without it. */
static uint64_t read_line(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	uint64_t value = UINT64_MAX;
	size_t len = strlen(name);
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, len) == 0 && line[len] == ':')
			value = strtoull(line + len + 1, NULL, 10) * 1024;
	}
	if (file)
		fclose(file);
	return value;
}

void run_measure(struct run_measure *ret)
{
	struct rusage usage = {0};

	ret->page_tables = read_line("/proc/self/status", "VmPTE");
	ret->sec_page_tables = read_line("/proc/meminfo", "SecPageTables");
	getrusage(RUSAGE_SELF, &usage);
	ret->minor = (uint64_t)usage.ru_minflt;
	ret->major = (uint64_t)usage.ru_majflt;
}

void run_seen(struct run_seen *seen, const struct run_engine *e)
{
	struct gm_residency *res = NULL;

	seen->usage.size = sizeof(seen->usage);
	seen->usage_known = gm_residency_open(0, &res, NULL) == 0 &&
			    gm_residency_usage(res, e->memory->hva, e->memory->len,
				    GM_RESIDENCY_FOLIOS, &seen->usage, NULL) == 0;
	gm_residency_close(res);
	if (e->kvm)
		seen->nr_stats = machine_stats(&e->machine, &seen->stats);
	seen->control.size = sizeof(seen->control);
	seen->control_known = e->kvm && e->machine.control.control &&
			      gm_control_info(e->machine.control.control, &seen->control) == 0;
	if (seen->control_known)
		seen->lifted = machine_control_lifted(&e->machine);
}

void run_seen_fini(struct run_seen *seen)
{
	free(seen->stats);
	seen->stats = NULL;
}
