/* SPDX-License-Identifier: BSD-3-Clause */
/* record.c - see record.h. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <guestmem/pager_run.h>

#include "tool.h"

#define MAGIC "GMGUEST1"
#define PAGE UINT64_C(4096)

static uint64_t whole_pages(uint64_t len)
{
	return (len + (PAGE - 1)) & ~(PAGE - 1);
}

/* Where everything lies: bytes of the file. */
static uint64_t lay_out(struct record *r)
{
	uint64_t at = whole_pages(sizeof(*r));

	r->journal = at;
	at += GM_PAGER_JOURNAL_LEN;
	for (uint32_t i = 0; i < r->nr; i++) {
		r->areas[i].states = at;
		at += gm_pager_states_len(r->areas[i].len / r->areas[i].page_size);
	}
	return at;
}

int record_make(const struct record_guest *guest, const struct gm_firecracker_mapping *maps,
	size_t nr, struct record *ret)
{
	const int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	int fd = memfd_create("guestmem-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint64_t len;

	*ret = (struct record){
		.nr = (uint32_t)nr,
		.number = guest->number,
		.pid = guest->pid,
		.uid = guest->uid,
		.image_len = guest->image_len,
	};
	memcpy(ret->magic, MAGIC, sizeof(ret->magic));
	snprintf(ret->identity, sizeof(ret->identity), "%s", guest->identity);
	for (size_t i = 0; i < nr; i++)
		ret->areas[i] = (struct record_area){
			maps[i].hva, maps[i].len, maps[i].offset, maps[i].page_size, 0};
	len = lay_out(ret);
	if (fd >= 0 && ftruncate(fd, (off_t)len) == 0 &&
		pwrite(fd, ret, sizeof(*ret), 0) == (ssize_t)sizeof(*ret) &&
		fcntl(fd, F_ADD_SEALS, seals) == 0)
		return fd;
	tool_error("guest %u: its states cannot be kept: %s", guest->number, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What was laid out must come out the same, or somebody else has written it. */
bool record_read(int fd, struct record *ret)
{
	struct record again;
	struct stat st;

	if (pread(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret) || fstat(fd, &st) ||
		memcmp(ret->magic, MAGIC, sizeof(ret->magic)) != 0 || ret->nr == 0 ||
		ret->nr > GM_FIRECRACKER_MAPPINGS_MAX) {
		tool_error("what the keeper has is no record of a guest, or another version's");
		return false;
	}
	ret->identity[sizeof(ret->identity) - 1] = '\0';
	for (uint32_t i = 0; i < ret->nr; i++) {
		const struct record_area *a = &ret->areas[i];

		if (a->page_size < PAGE || (a->page_size & (a->page_size - 1)) ||
			a->len % a->page_size || a->len > UINT64_MAX >> 8) {
			tool_error("the keeper's record of guest %u is damaged", ret->number);
			return false;
		}
	}
	again = *ret;
	if (lay_out(&again) == (uint64_t)st.st_size && memcmp(&again, ret, sizeof(again)) == 0)
		return true;
	tool_error("the keeper's record of guest %u is damaged", ret->number);
	return false;
}

static int add_areas(struct gm_pager *pager, const struct record *r, int fd, uint64_t uffd,
	struct gm_source *source, bool takeover, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < r->nr && !rc; i++) {
		struct gm_pager_area_opts opts = {
			.size = sizeof(opts),
			.source = source,
			.offset = r->areas[i].offset,
			.page_size = r->areas[i].page_size,
			.states = fd,
			.states_off = r->areas[i].states,
		};

		if (fd >= 0)
			opts.flags = GM_PAGER_STATES | (takeover ? GM_PAGER_TAKEOVER : 0);
		rc = gm_pager_add_mapping(
			pager, uffd, r->areas[i].hva, r->areas[i].len, &opts, NULL, err);
	}
	return rc;
}

bool record_pager(const struct record *record, int fd, int uffd, struct gm_source *source,
	const struct gm_pager_opts *opts, bool takeover, struct gm_pager **ret,
	struct gm_error *err)
{
	struct gm_pager_opts copy = *opts;
	struct gm_pager *pager;
	uint64_t id;
	int rc;

	copy.size = sizeof(copy);
	if (fd >= 0) {
		copy.flags |= GM_PAGER_JOURNAL;
		copy.journal = fd;
		copy.journal_off = record->journal;
	}
	if (gm_pager_create(&copy, &pager, err))
		return false;
	rc = gm_pager_add_uffd(pager, uffd, record->pid, &id, err);
	if (!rc)
		rc = add_areas(pager, record, fd, id, source, takeover, err);
	if (!rc) {
		*ret = pager;
		return true;
	}
	/* Whoever has the userfaultfd holds it: nothing turns into zeros. */
	gm_pager_stop(pager, GM_PAGER_HANDOVER, 0, NULL);
	gm_pager_destroy(pager, NULL);
	return false;
}

/* Protection that nothing has is taken away: this changes nothing, but needs the process's memory. */
bool record_is_gone(const struct record *record, int uffd)
{
	struct uffdio_writeprotect nothing = {.range = {record->areas[0].hva, PAGE}};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &nothing) && errno == ESRCH;
}

uint64_t record_bytes(const struct record *record)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < record->nr; i++)
		sum += record->areas[i].len;
	return sum;
}
