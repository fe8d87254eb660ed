/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader_elf.c - ELF files: headers are read and checked, all memory is looked for, then segments go in.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "services/loader.h"
#include "sys/sys.h"

#define FOUR_GIB (UINT64_C(1) << 32)
#define X86 (GM_MACHINE_I386 | GM_MACHINE_X86_64)
#define BITS64 (GM_MACHINE_X86_64 | GM_MACHINE_ARM64 | GM_MACHINE_RISCV64)

/* ---- headers ---- */

static int read_phdrs(struct gm_load_job *job, struct gm_elf_file *file)
{
	const struct gm_elf *elf = &file->elf;
	uint8_t bytes[GM_ELF_PHDR_MAX];
	int rc = 0;

	file->segments = gm_sys_alloc_array(elf->nr_phdrs, sizeof(*file->segments));
	if (!file->segments)
		return gm_error_set(job->load.err, -ENOMEM, 0, 0,
			"ELF: no memory for %" PRIu32 " program headers", elf->nr_phdrs);
	for (uint32_t i = 0; !rc && i < elf->nr_phdrs; i++) {
		uint64_t off = elf->phoff + (uint64_t)i * elf->phdr_len;

		rc = gm_load_read(&job->load, off, bytes, elf->phdr_len);
		if (rc)
			return rc;
		rc = gm_load_refuse(
			job, gm_elf_phdr(&job->image, elf, bytes, i, &file->segments[i]));
	}
	return rc;
}

static int read_note(
	struct gm_load_job *job, struct gm_elf_file *file, const struct gm_elf_segment *note)
{
	uint8_t *bytes = gm_sys_alloc((size_t)note->file_len);
	int rc;

	if (!bytes)
		return gm_error_set(job->load.err, -ENOMEM, 0, 0,
			"ELF: no memory for 0x%" PRIx64 " bytes of notes", note->file_len);
	rc = gm_load_read(&job->load, note->off, bytes, (size_t)note->file_len);
	if (!rc)
		rc = gm_load_refuse(job, gm_elf_notes(&job->image, note, bytes, &file->notes));
	gm_sys_free(bytes);
	return rc;
}

/* The note that counts is x86's. */
static int read_notes(struct gm_load_job *job, struct gm_elf_file *file)
{
	int rc = 0;

	if (!(file->elf.machine & X86))
		return 0;
	for (uint32_t i = 0; !rc && i < file->elf.nr_phdrs; i++) {
		const struct gm_elf_segment *segment = &file->segments[i];

		if (segment->use == GM_ELF_NOTE && segment->file_len)
			rc = read_note(job, file, segment);
	}
	return rc;
}

static void describe(struct gm_kernel *kernel, const struct gm_elf_file *file)
{
	kernel->machine = file->elf.machine;
	kernel->flags |= kernel->machine & BITS64 ? GM_KERNEL_ENTRY64 : GM_KERNEL_ENTRY32;
	if (file->elf.relocatable)
		kernel->flags |= GM_KERNEL_RELOCATABLE;
	if (file->notes.has_pvh)
		kernel->flags |= GM_KERNEL_ENTRY_PVH;
	kernel->cmdline_max = 2047;
	kernel->initrd_last = UINT64_MAX;
	/* What Linux says in a bzImage's header. */
	if (kernel->machine & X86)
		kernel->initrd_last = 0x7fffffff;
	if (kernel->machine == GM_MACHINE_X86_64)
		kernel->flags |= GM_KERNEL_ABOVE_4G;
	if (kernel->machine & (GM_MACHINE_RISCV32 | GM_MACHINE_RISCV64))
		kernel->cmdline_max = 1023;
}

int gm_elf_open(struct gm_load_job *job, struct gm_elf_file *ret)
{
	int rc;

	*ret = (struct gm_elf_file){0};
	rc = gm_load_refuse(job, gm_elf_head(&job->image, &ret->elf));
	if (!rc)
		rc = read_phdrs(job, ret);
	if (!rc)
		rc = read_notes(job, ret);
	if (!rc)
		describe(&job->kernel, ret);
	return rc;
}

void gm_elf_close(struct gm_elf_file *file)
{
	gm_sys_free(file->segments);
	file->segments = NULL;
}

/* ---- segments ---- */

/* Puts all segments where they go; how many are to be loaded. */
static int arrange(
	struct gm_load_job *job, struct gm_elf_file *file, uint64_t *ret_delta, uint32_t *ret_nr)
{
	uint32_t nr = file->elf.nr_phdrs;
	int rc = 0;

	*ret_delta = 0;
	if ((job->opts.flags & GM_LOAD_AT) && !file->elf.relocatable)
		return gm_error_set(job->load.err, -EINVAL, job->opts.addr, 0,
			"ELF: e_type is ET_EXEC, so it cannot be moved to 0x%" PRIx64,
			job->opts.addr);
	if (job->opts.flags & GM_LOAD_AT)
		rc = gm_load_refuse(job,
			gm_elf_delta(&job->image, file->segments, nr, job->opts.addr, ret_delta));
	if (!rc)
		rc = gm_load_refuse(
			job, gm_elf_arrange(&job->image, file->segments, nr, *ret_delta, ret_nr));
	if (!rc && *ret_nr == 0)
		rc = gm_error_set(job->load.err, -ENOEXEC, 0, 0,
			"ELF: none of %" PRIu32 " program headers is to be loaded", nr);
	return rc;
}

static int find_entries(
	struct gm_load_job *job, const struct gm_elf_file *file, uint64_t delta, uint32_t nr)
{
	struct gm_kernel *kernel = &job->kernel;
	bool is64 = kernel->flags & GM_KERNEL_ENTRY64;
	int rc = gm_load_refuse(
		job, gm_elf_entry(&job->image, "e_entry", file->elf.entry, delta, file->segments,
			     nr, is64 ? &kernel->entry64 : &kernel->entry32));

	if (rc || !file->notes.has_pvh)
		return rc;
	rc = gm_load_refuse(job, gm_elf_entry(&job->image, "PVH entry", file->notes.pvh_entry,
					 delta, file->segments, nr, &kernel->entry_pvh));
	if (!rc && kernel->entry_pvh >= FOUR_GIB)
		rc = gm_error_set(job->load.err, -ERANGE, kernel->entry_pvh, 0,
			"ELF: the PVH entry 0x%" PRIx64 " does not lie below 4 GiB",
			kernel->entry_pvh);
	return rc;
}

/* The last address of all lies in the last segment: they are sorted and do not overlap. */
static int check_memory(struct gm_load_job *job, const struct gm_elf_file *file, uint32_t nr)
{
	const struct gm_range all = {
		file->segments[0].range.first, file->segments[nr - 1].range.last};
	int rc = gm_load_take(job, &all);

	for (uint32_t i = 0; !rc && i < nr; i++)
		rc = gm_load_check(&job->load, &file->segments[i].range);
	return rc;
}

static int load_segment(const struct gm_load_job *job, const struct gm_elf_segment *segment)
{
	uint64_t rest = gm_range_len(&segment->range) - segment->file_len;
	int rc = gm_load_move(&job->load, segment->off, segment->range.first, segment->file_len);

	if (rc || rest == 0)
		return rc;
	return gm_load_zero(&job->load, segment->range.first + segment->file_len, rest);
}

int gm_elf_load(struct gm_load_job *job, struct gm_elf_file *file)
{
	uint64_t delta = 0;
	uint32_t nr = 0;
	int rc = arrange(job, file, &delta, &nr);

	if (!rc)
		rc = find_entries(job, file, delta, nr);
	if (!rc)
		rc = check_memory(job, file, nr);
	for (uint32_t i = 0; !rc && i < nr; i++)
		rc = load_segment(job, &file->segments[i]);
	return rc;
}
