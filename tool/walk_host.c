/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk_host.c - what this host is: its TLB, whether it is a guest itself, how its KVM walks.
 *
 * Only what is cheap to see: cpuid, the modules of KVM and their parameters.
 */
#include <stdlib.h>
#include <string.h>

#include <guestmem/host.h>

#include "walk.h"

#if defined(__x86_64__)
#include <cpuid.h>

static struct walk_regs cpuid_of_this(void *ctx, uint32_t leaf, uint32_t sub)
{
	struct walk_regs r;

	(void)ctx;
	__cpuid_count(leaf, sub, r.a, r.b, r.c, r.d);
	return r;
}

static void read_cpu(struct walk_host *host, struct walk_tlb *tlb)
{
	struct walk_regs r = cpuid_of_this(NULL, 1, 0);
	char name[13] = "";

	walk_tlb_read(cpuid_of_this, NULL, tlb);
	if (!(r.c >> 31))
		return;
	r = cpuid_of_this(NULL, 0x40000000, 0);
	memcpy(name, &r.b, 4);
	memcpy(name + 4, &r.c, 4);
	memcpy(name + 8, &r.d, 4);
	tool_escape(name, host->hypervisor, sizeof(host->hypervisor));
	if (!host->hypervisor[0])
		strcpy(host->hypervisor, "unnamed");
}
#else
static void read_cpu(struct walk_host *host, struct walk_tlb *tlb)
{
	(void)host;
	walk_tlb_read(NULL, NULL, tlb);
}
#endif

/* The first letter of a module's parameter, 0 if it cannot be read. */
static char parameter(const char *path)
{
	FILE *file = fopen(path, "re");
	int c = file ? fgetc(file) : EOF;

	if (file)
		fclose(file);
	return c == EOF ? '\0' : (char)c;
}

static void read_kvm(struct walk_host *host)
{
	char two = '\0';

	if (strcmp(host->kvm, "kvm_pvm") == 0)
		two = 'N';
	else if (strcmp(host->kvm, "kvm_intel") == 0)
		two = parameter("/sys/module/kvm_intel/parameters/ept");
	else if (strcmp(host->kvm, "kvm_amd") == 0)
		two = parameter("/sys/module/kvm_amd/parameters/npt");
	host->kvm_known = two != '\0';
	host->kvm_paging = two == 'N' || two == '0' ? GM_WALK_SHADOW : GM_WALK_NESTED;
}

void walk_host_read(struct walk_host *ret, struct walk_tlb *tlb)
{
	struct gm_host *host = tool_alloc(1, sizeof(*host));

	*ret = (struct walk_host){.kvm_paging = GM_WALK_NESTED};
	read_cpu(ret, tlb);
	host->size = sizeof(*host);
	if (gm_host_probe(host, NULL) == 0) {
		tool_escape(host->kvm_kind, ret->kvm, sizeof(ret->kvm));
		ret->lean = host->hvo == GM_HOST_YES;
	}
	free(host);
	read_kvm(ret);
}

size_t walk_host_notes(const struct walk_host *host, char **notes, size_t max)
{
	size_t nr = 0;

	if (host->hypervisor[0] && nr < max)
		notes[nr++] = tool_printf("this machine is a guest itself (%s): the pages of its "
					  "host are not seen; a walk "
					  "that is native here is a nested one, and no TLB entry "
					  "maps more than a page of "
					  "that host",
			host->hypervisor);
	if (host->kvm_known && host->kvm_paging == GM_WALK_SHADOW && nr < max)
		notes[nr++] = tool_printf("KVM here (%s) has shadow paging: its guests have the "
					  "loads of a shadow walk, and "
					  "nothing that is measured in them shows a nested one",
			host->kvm);
	if (host->kvm_known && host->kvm_paging == GM_WALK_NESTED && host->hypervisor[0] &&
		nr < max)
		notes[nr++] = tool_printf("KVM here (%s) is nested in another one: what its guests "
					  "walk is what that makes "
					  "of both",
			host->kvm);
	if (!host->kvm_known && nr < max)
		notes[nr++] = tool_printf("it is not known how guests of this machine are walked: "
					  "no KVM that tells was found");
	return nr;
}
