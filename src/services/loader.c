/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader.c - kernels: which format a file has, where it goes, what is told about it.
 *
 * The headers are read once and only the copy is looked at. All is decided before the first byte of guest
 * memory is written.
 */
#include "services/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/setup.h"

#define LOADABLE (GM_KERNEL_ELF | GM_KERNEL_BZIMAGE | GM_KERNEL_ARM64 | GM_KERNEL_RISCV)
#define MACHINES                                                                                   \
	(GM_MACHINE_I386 | GM_MACHINE_X86_64 | GM_MACHINE_ARM64 | GM_MACHINE_RISCV32 |             \
		GM_MACHINE_RISCV64)
#define GIB (UINT64_C(1) << 30)

/* What the headers of each format have been turned into. */
struct headers {
	struct gm_elf_file elf;
	struct gm_bzimage bz;
	struct gm_flat flat;
	struct gm_zboot zboot;
};

static const char *format_name(uint32_t format)
{
	switch (format) {
	case GM_KERNEL_ELF:
		return "ELF";
	case GM_KERNEL_BZIMAGE:
		return "bzImage";
	case GM_KERNEL_ARM64:
		return "arm64 Image";
	case GM_KERNEL_RISCV:
		return "RISC-V Image";
	case GM_KERNEL_ZBOOT:
		return "EFI zboot image";
	case GM_KERNEL_PE:
		return "EFI application";
	default:
		return "kernel";
	}
}

static const char *machine_name(uint32_t machine)
{
	switch (machine) {
	case GM_MACHINE_I386:
		return "i386";
	case GM_MACHINE_X86_64:
		return "x86-64";
	case GM_MACHINE_ARM64:
		return "arm64";
	case GM_MACHINE_RISCV32:
		return "32-bit RISC-V";
	case GM_MACHINE_RISCV64:
		return "64-bit RISC-V";
	default:
		return "another machine";
	}
}

int gm_load_refuse(const struct gm_load_job *job, int rc)
{
	uint64_t gpa = rc == -EEXIST ? job->fault.value : 0;
	char text[256];

	if (rc == 0)
		return 0;
	gm_image_fault_text(&job->fault, text, sizeof(text));
	return gm_error_set(job->load.err, rc, gpa, 0, "%s: %s", job->load.what, text);
}

int gm_load_take(struct gm_load_job *job, const struct gm_range *range)
{
	if (range->last > job->opts.last)
		return gm_error_set(job->load.err, -ERANGE, range->first, gm_range_len(range),
			"%s: from 0x%" PRIx64 " it reaches to 0x%" PRIx64
			", nothing may lie above 0x%" PRIx64,
			job->load.what, range->first, range->last, job->opts.last);
	job->kernel.first = range->first;
	job->kernel.last = range->last;
	return 0;
}

/* ---- what it is ---- */

static int read_head(struct gm_load_job *job)
{
	uint64_t len = job->load.file_len;

	if (len > GM_IMAGE_HEAD_MAX)
		len = GM_IMAGE_HEAD_MAX;
	job->image = (struct gm_image){
		.head = job->head,
		.len = (size_t)len,
		.file_len = job->load.file_len,
		.fault = &job->fault,
	};
	return gm_load_read(&job->load, 0, job->head, (size_t)len);
}

/* The machine of an EFI application that is one besides; 0 = it is none. */
static uint32_t look_for_stub(struct gm_load_job *job)
{
	struct gm_image_fault ignored;
	struct gm_image image = job->image;
	struct gm_pe pe;

	image.fault = &ignored;
	if (gm_pe_head(&image, &pe) || !pe.efi_application)
		return 0;
	job->kernel.flags |= GM_KERNEL_EFI_STUB;
	return pe.machine;
}

static int describe_bzimage(struct gm_load_job *job, struct gm_bzimage *bz)
{
	struct gm_kernel *kernel = &job->kernel;
	int rc = gm_load_refuse(job, gm_bzimage_head(&job->image, bz));

	if (rc)
		return rc;
	look_for_stub(job);
	kernel->machine = bz->entry64 ? GM_MACHINE_X86_64 : GM_MACHINE_I386;
	kernel->flags |= GM_KERNEL_ENTRY32 | (bz->entry64 ? GM_KERNEL_ENTRY64 : 0) |
			 (bz->relocatable ? GM_KERNEL_RELOCATABLE : 0) |
			 (bz->above_4g ? GM_KERNEL_ABOVE_4G : 0);
	kernel->protocol = bz->protocol;
	kernel->cmdline_max = bz->cmdline_max;
	kernel->initrd_last = bz->initrd_last;
	kernel->setup_len = bz->setup_len;
	memcpy(kernel->setup, job->head + GM_SETUP_FIRST, bz->setup_len);
	return 0;
}

static int describe_flat(struct gm_load_job *job, struct gm_flat *flat)
{
	struct gm_kernel *kernel = &job->kernel;
	bool arm64 = kernel->format == GM_KERNEL_ARM64;
	uint32_t machine;
	int rc = gm_load_refuse(
		job, arm64 ? gm_arm64_head(&job->image, flat) : gm_riscv_head(&job->image, flat));

	if (rc)
		return rc;
	machine = look_for_stub(job);
	kernel->machine = arm64                           ? GM_MACHINE_ARM64
			  : machine == GM_MACHINE_RISCV32 ? GM_MACHINE_RISCV32
							  : GM_MACHINE_RISCV64;
	kernel->flags |=
		GM_KERNEL_RELOCATABLE |
		(kernel->machine == GM_MACHINE_RISCV32 ? GM_KERNEL_ENTRY32 : GM_KERNEL_ENTRY64) |
		(flat->big_endian ? GM_KERNEL_BIG_ENDIAN : 0);
	kernel->page_size = flat->page_size;
	kernel->cmdline_max = arm64 ? 2047 : 1023;
	kernel->initrd_last = UINT64_MAX;
	return 0;
}

static int describe_efi(struct gm_load_job *job)
{
	struct gm_pe pe;
	int rc = gm_load_refuse(job, gm_pe_head(&job->image, &pe));

	if (rc)
		return rc;
	if (!pe.efi_application)
		return gm_error_set(job->load.err, -ENOEXEC, 0, 0,
			"%s: a PE file, but no EFI application", job->load.what);
	job->kernel.machine = pe.machine;
	job->kernel.flags |= GM_KERNEL_EFI_STUB;
	return 0;
}

static int describe_unknown(const struct gm_load_job *job)
{
	const uint8_t *head = job->head;

	if (job->image.len < 4)
		return gm_error_set(job->load.err, -ENOEXEC, 0, 0,
			"kernel: a file of %zu bytes has no header", job->image.len);
	return gm_error_set(job->load.err, -ENOEXEC, 0, 0,
		"kernel: no format that is known, it begins with bytes %02x %02x %02x %02x",
		head[0], head[1], head[2], head[3]);
}

static int describe(struct gm_load_job *job, struct headers *ret)
{
	int rc = gm_load_open(&job->load);

	ret->elf.segments = NULL;
	if (!rc)
		rc = read_head(job);
	if (rc)
		return rc;
	job->kernel.format = gm_image_format(&job->image);
	job->load.what = format_name(job->kernel.format);
	switch (job->kernel.format) {
	case GM_KERNEL_ELF:
		return gm_elf_open(job, &ret->elf);
	case GM_KERNEL_BZIMAGE:
		return describe_bzimage(job, &ret->bz);
	case GM_KERNEL_ARM64:
	case GM_KERNEL_RISCV:
		return describe_flat(job, &ret->flat);
	case GM_KERNEL_ZBOOT:
		rc = describe_efi(job);
		return rc ? rc : gm_load_refuse(job, gm_zboot_head(&job->image, &ret->zboot));
	case GM_KERNEL_PE:
		return describe_efi(job);
	default:
		return describe_unknown(job);
	}
}

int gm_kernel_probe(int fd, struct gm_kernel *ret_kernel, struct gm_error *err)
{
	struct gm_load_job job = {.load = {.fd = fd, .what = "kernel", .err = err}};
	struct headers headers;
	int rc;

	if (ret_kernel->size < sizeof(*ret_kernel))
		return gm_opts_error(err, -EINVAL, "kernel");
	job.kernel.size = ret_kernel->size;
	rc = describe(&job, &headers);
	gm_elf_close(&headers.elf);
	if (!rc)
		*ret_kernel = job.kernel;
	return rc;
}

/* ---- where it goes ---- */

static int load_bzimage(struct gm_load_job *job, const struct gm_bzimage *bz)
{
	struct gm_kernel *kernel = &job->kernel;
	bool at = job->opts.flags & GM_LOAD_AT;
	/* One that cannot be moved unpacks itself to where it prefers, from 1 MiB. */
	uint64_t fixed = bz->relocatable ? bz->preferred : UINT64_C(0x100000);
	uint64_t addr = at ? job->opts.addr : fixed;
	struct gm_range range;
	int rc;

	if (at && !bz->relocatable && addr != fixed)
		return gm_error_set(job->load.err, -EINVAL, addr, 0,
			"bzImage: it is not relocatable, so it goes to 0x%" PRIx64
			", not to 0x%" PRIx64,
			fixed, addr);
	rc = gm_load_refuse(job, gm_bzimage_place(&job->image, bz, addr, &range));
	if (!rc)
		rc = gm_load_take(job, &range);
	if (!rc)
		rc = gm_load_check(&job->load, &range);
	if (!rc)
		rc = gm_load_move(&job->load, bz->off, addr, bz->len);
	if (rc)
		return rc;
	if (addr <= UINT32_MAX)
		kernel->entry32 = addr;
	else
		kernel->flags &= ~GM_KERNEL_ENTRY32;
	if (bz->entry64)
		kernel->entry64 = addr + 0x200;
	return 0;
}

/* The multiple of 2 MiB from which the text offset counts. */
static int flat_base(struct gm_load_job *job, const struct gm_flat *flat, uint64_t *ret_base)
{
	struct gm_load_want want = {
		.within = {0, job->opts.last},
		.align = GM_FLAT_ALIGN,
		.lowest = true,
	};

	if (!(job->opts.flags & GM_LOAD_AT)) {
		if (__builtin_add_overflow(flat->text_off, flat->len, &want.len))
			want.len = UINT64_MAX;
		return gm_load_find(&job->load, &want, ret_base);
	}
	*ret_base = job->opts.addr;
	if (!gm_is_aligned(*ret_base, GM_FLAT_ALIGN))
		return gm_error_set(job->load.err, -EINVAL, *ret_base, 0,
			"%s: the address 0x%" PRIx64 " is no multiple of 2 MiB", job->load.what,
			*ret_base);
	return 0;
}

static int load_flat(struct gm_load_job *job, const struct gm_flat *flat)
{
	struct gm_kernel *kernel = &job->kernel;
	struct gm_range range;
	uint64_t base;
	uint64_t addr;
	int rc = flat_base(job, flat, &base);

	if (rc)
		return rc;
	if (__builtin_add_overflow(base, flat->text_off, &addr) ||
		!gm_range_make(addr, flat->len, &range))
		return gm_error_set(job->load.err, -ERANGE, base, flat->len,
			"%s: at 0x%" PRIx64 " its 0x%" PRIx64 " bytes wrap past the last address",
			job->load.what, base, flat->len);
	rc = gm_load_take(job, &range);
	if (!rc)
		rc = gm_load_check(&job->load, &range);
	if (!rc)
		rc = gm_load_move(&job->load, 0, addr, job->load.file_len);
	if (rc)
		return rc;
	if (kernel->flags & GM_KERNEL_ENTRY64)
		kernel->entry64 = addr;
	else
		kernel->entry32 = addr;
	/* Kernel and RAM disk: a window of 32 GiB that begins at a multiple of 1 GiB. */
	if (kernel->format == GM_KERNEL_ARM64 &&
		!gm_range_make(gm_align_down(addr, GIB), 32 * GIB, &range))
		range.last = UINT64_MAX;
	if (kernel->format == GM_KERNEL_ARM64)
		kernel->initrd_last = range.last;
	return 0;
}

/* ---- what is asked for ---- */

static int check_opts(
	struct gm_load_opts *ret, const struct gm_load_opts *opts, struct gm_error *err)
{
	int rc = opts ? gm_opts_copy(ret, sizeof(*ret), opts, sizeof(*ret)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "kernel");
	if ((ret->formats & ~LOADABLE) || (ret->machines & ~MACHINES) ||
		(ret->flags & ~GM_LOAD_AT) || ret->reserved)
		return gm_error_set(err, -EINVAL, 0, 0,
			"kernel: formats 0x%" PRIx32 ", machines 0x%" PRIx32 ", flags 0x%" PRIx32
			" or reserved have bits that are not known",
			ret->formats, ret->machines, ret->flags);
	if (!(ret->flags & GM_LOAD_AT) && ret->addr)
		return gm_error_set(err, -EINVAL, ret->addr, 0,
			"kernel: an address is given without GM_LOAD_AT");
	if (!ret->formats)
		ret->formats = LOADABLE;
	if (!ret->machines)
		ret->machines = MACHINES;
	if (!ret->last)
		ret->last = UINT64_MAX;
	return 0;
}

/* Is it of a sort that is wanted, and that can be loaded at all? */
static int check_sort(const struct gm_load_job *job, const struct headers *headers)
{
	const struct gm_kernel *kernel = &job->kernel;

	if (kernel->format == GM_KERNEL_ZBOOT)
		return gm_error_set(job->load.err, -ENOTSUP, 0, 0,
			"EFI zboot image for %s: its Image is compressed by '%s', 0x%" PRIx64
			" bytes from 0x%" PRIx64 " on: decompress it first",
			machine_name(kernel->machine), headers->zboot.compression,
			headers->zboot.len, headers->zboot.off);
	if (kernel->format == GM_KERNEL_PE)
		return gm_error_set(job->load.err, -ENOTSUP, 0, 0,
			"EFI application for %s: firmware has to load it",
			machine_name(kernel->machine));
	if (!(kernel->format & job->opts.formats))
		return gm_error_set(job->load.err, -ENOTSUP, 0, 0,
			"%s: not among the formats that are accepted, 0x%" PRIx32, job->load.what,
			job->opts.formats);
	if (!(kernel->machine & job->opts.machines))
		return gm_error_set(job->load.err, -ENOTSUP, 0, 0,
			"%s: it is for %s, not among the machines that are accepted, 0x%" PRIx32,
			job->load.what, machine_name(kernel->machine), job->opts.machines);
	return 0;
}

static int load_kernel(struct gm_load_job *job, struct headers *headers)
{
	int rc = describe(job, headers);

	if (!rc)
		rc = check_sort(job, headers);
	if (rc)
		return rc;
	switch (job->kernel.format) {
	case GM_KERNEL_ELF:
		return gm_elf_load(job, &headers->elf);
	case GM_KERNEL_BZIMAGE:
		return load_bzimage(job, &headers->bz);
	default:
		return load_flat(job, &headers->flat);
	}
}

int gm_load_kernel(struct gm_reader *reader, int fd, const struct gm_load_opts *opts,
	struct gm_kernel *ret_kernel, struct gm_error *err)
{
	struct gm_load_job job = {
		.load = {.reader = reader, .fd = fd, .what = "kernel", .err = err}};
	struct headers headers;
	int rc;

	if (ret_kernel->size < sizeof(*ret_kernel))
		return gm_opts_error(err, -EINVAL, "kernel");
	job.kernel.size = ret_kernel->size;
	rc = check_opts(&job.opts, opts, err);
	if (rc)
		return rc;
	rc = load_kernel(&job, &headers);
	gm_elf_close(&headers.elf);
	if (!rc)
		*ret_kernel = job.kernel;
	return rc;
}
