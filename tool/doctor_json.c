/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_json.c - struct gm_host as JSON; what is unknown is null. */
#include "doctor.h"

static json_t *word(const char *text)
{
	return text[0] ? tool_json_text(text) : json_null();
}

static json_t *answer(uint32_t a)
{
	return a == GM_HOST_UNSURE ? json_null() : json_boolean(a == GM_HOST_YES);
}

static json_t *json_thp(const struct gm_host *h)
{
	json_t *sizes = json_array();

	for (uint32_t i = 0; i < h->nr_thp; i++)
		json_array_append_new(
			sizes, json_pack("{s:o, s:o, s:o}", "page_size",
				       tool_json_number(h->thp[i].page_size), "enabled",
				       word(h->thp[i].enabled), "shmem_enabled",
				       word(h->thp[i].shmem_enabled)));
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "enabled", word(h->thp_enabled), "defrag",
		word(h->thp_defrag), "shmem_enabled", word(h->shmem_enabled), "page_size",
		tool_json_number(h->thp_page), "sizes", sizes);
}

static json_t *json_pools(const struct gm_host *h)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->nr_pools; i++) {
		const struct gm_host_pool *p = &h->pools[i];

		json_array_append_new(
			list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "page_size",
				      tool_json_number(p->page_size), "total",
				      tool_json_number(p->total), "free", tool_json_number(p->free),
				      "reserved", tool_json_number(p->reserved), "surplus",
				      tool_json_number(p->surplus), "overcommit",
				      tool_json_number(p->overcommit)));
	}
	return list;
}

static json_t *json_nodes(const struct gm_host *h)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->nr_nodes; i++) {
		const struct gm_host_node *n = &h->nodes[i];
		json_t *pools = json_array();

		for (uint32_t p = 0; p < h->nr_pools; p++)
			json_array_append_new(
				pools, json_pack("{s:o, s:o, s:o}", "page_size",
					       tool_json_number(h->pools[p].page_size), "total",
					       tool_json_number(n->huge_total[p]), "free",
					       tool_json_number(n->huge_free[p])));
		json_array_append_new(
			list, json_pack("{s:i, s:o, s:o, s:o}", "node", (int)n->node, "total_bytes",
				      tool_json_number(n->total), "free_bytes",
				      tool_json_number(n->free), "pools", pools));
	}
	return list;
}

static json_t *json_kvm(const struct gm_host *h)
{
	return json_pack("{s:o, s:o, s:i, s:o, s:o, s:o, s:o}", "present", answer(h->kvm_present),
		"usable", answer(h->kvm_usable), "errno", (int)h->kvm_error, "kind",
		word(h->kvm_kind), "guest_memfd", tool_json_number(h->kvm_guest_memfd),
		"guest_memfd_flags", tool_json_number(h->kvm_guest_memfd_flags), "pre_fault",
		tool_json_number(h->kvm_pre_fault));
}

static json_t *json_uffd(const struct gm_host *h)
{
	uint32_t ways = h->uffd_ways;

	return json_pack("{s:b, s:b, s:b, s:o, s:o}", "device", (ways & GM_HOST_UFFD_DEVICE) != 0,
		"system_call", (ways & GM_HOST_UFFD_SYSCALL) != 0, "user_mode_only",
		(ways & GM_HOST_UFFD_USER_ONLY) != 0, "features",
		tool_json_number(h->uffd_features), "unprivileged_sysctl",
		tool_json_number(h->uffd_sysctl));
}

static void set_memory(json_t *json, const struct gm_host *h)
{
	json_object_set_new(json, "kernel", word(h->kernel));
	json_object_set_new(json, "cpus", tool_json_number(h->cpus));
	json_object_set_new(json, "base_page_size", tool_json_number(h->base_page));
	json_object_set_new(json, "memory_total_bytes", tool_json_number(h->mem_total));
	json_object_set_new(json, "memory_available_bytes", tool_json_number(h->mem_available));
	json_object_set_new(json, "swap_total_bytes", tool_json_number(h->swap_total));
	json_object_set_new(json, "cgroup",
		json_pack("{s:i, s:o, s:o, s:o}", "version", (int)h->cgroup_version, "limit_bytes",
			tool_json_number(h->cgroup_limit), "current_bytes",
			tool_json_number(h->cgroup_current), "file", word(h->cgroup_file)));
	json_object_set_new(json, "thp", json_thp(h));
	json_object_set_new(json, "hugetlb_pools", json_pools(h));
	json_object_set_new(json, "hugetlb_default_size", tool_json_number(h->hugetlb_default));
	json_object_set_new(json, "hugetlb_optimize_vmemmap", answer(h->hvo));
	json_object_set_new(json, "numa_nodes_online", json_integer(h->nr_nodes_online));
	json_object_set_new(json, "numa_nodes", json_nodes(h));
}

static void set_access(json_t *json, const struct gm_host *h)
{
	json_object_set_new(json, "kvm", json_kvm(h));
	json_object_set_new(json, "userfaultfd", json_uffd(h));
	json_object_set_new(json, "memfd", answer(h->memfd));
	json_object_set_new(json, "pagemap", answer(h->pagemap));
	json_object_set_new(json, "pagemap_scan", answer(h->pagemap_scan));
	json_object_set_new(json, "pagemap_scan_guard", answer(h->pagemap_guard));
	json_object_set_new(json, "pagemap_frame_numbers", answer(h->pagemap_pfn));
	json_object_set_new(json, "kpageflags", answer(h->kpageflags));
	json_object_set_new(json, "procmap_query", answer(h->maps_query));
	json_object_set_new(json, "memlock_limit_bytes", tool_json_number(h->memlock_limit));
	json_object_set_new(json, "memlock_unbound", answer(h->memlock_free));
	json_object_set_new(json, "max_map_count", tool_json_number(h->max_map_count));
	json_object_set_new(json, "overcommit_memory", tool_json_number(h->overcommit));
	json_object_set_new(json, "perf_event_paranoid",
		h->perf_paranoid == GM_HOST_UNKNOWN
			? json_null()
			: json_integer((json_int_t)h->perf_paranoid - 1));
	json_object_set_new(json, "ksm_run", tool_json_number(h->ksm_run));
}

json_t *doctor_host_json(const struct gm_host *h)
{
	json_t *json = json_object();

	set_memory(json, h);
	set_access(json, h);
	return json;
}
