/* SPDX-License-Identifier: BSD-3-Clause */
/* kvm_stats.c - KVM's own statistics of a virtual machine and its vCPUs, where there are any. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "tool.h"

#define NAME_CAP 1024u
#define DESCS_MAX 4096u

struct list {
	struct kvm_stat *stats;
	size_t nr;
};

static struct kvm_stat *stat_of(struct list *list, const char *name)
{
	for (size_t i = 0; i < list->nr; i++) {
		if (strcmp(list->stats[i].name, name) == 0)
			return &list->stats[i];
	}
	list->stats = tool_realloc(list->stats, list->nr + 1, sizeof(*list->stats));
	list->stats[list->nr] = (struct kvm_stat){0};
	memcpy(list->stats[list->nr].name, name, strnlen(name, sizeof(list->stats[0].name) - 1));
	return &list->stats[list->nr++];
}

static bool read_at(int fd, void *to, size_t len, uint64_t at)
{
	return pread(fd, to, len, (off_t)at) == (ssize_t)len;
}

/* Single numbers; histograms are left out. */
static void read_stats(int fd, struct list *list)
{
	struct kvm_stats_header h;
	size_t desc_len;
	char buf[sizeof(struct kvm_stats_desc) + NAME_CAP];
	struct kvm_stats_desc *desc = (struct kvm_stats_desc *)(void *)buf;

	if (!read_at(fd, &h, sizeof(h), 0) || h.name_size == 0 || h.name_size > NAME_CAP ||
		h.num_desc > DESCS_MAX)
		return;
	desc_len = sizeof(*desc) + h.name_size;
	for (uint32_t i = 0; i < h.num_desc; i++) {
		uint64_t value;

		if (!read_at(fd, buf, desc_len, h.desc_offset + (uint64_t)i * desc_len))
			return;
		buf[desc_len - 1] = '\0';
		if (desc->size == 1 &&
			read_at(fd, &value, sizeof(value), (uint64_t)h.data_offset + desc->offset))
			stat_of(list, desc->name)->value += value;
	}
}

static void add_stats(int of_fd, struct list *list)
{
	int fd = ioctl(of_fd, KVM_GET_STATS_FD, 0);

	if (fd < 0)
		return;
	read_stats(fd, list);
	close(fd);
}

size_t machine_stats(const struct machine *m, struct kvm_stat **ret)
{
	struct list list = {0};

	add_stats(m->vm_fd, &list);
	for (uint32_t i = 0; i < m->opts.nr_vcpus; i++)
		add_stats(m->vcpus[i].fd, &list);
	*ret = list.stats;
	return list.nr;
}
