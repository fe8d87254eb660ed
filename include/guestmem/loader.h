/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader.h - kernels, initial RAM disks and command lines from files into guest memory, and what a
 * guest is told about them at boot.
 *
 * Bytes go from the file straight into guest memory. A file is not trusted: every field of its headers
 * is bounded before it is used, and what is refused is named with its value and the limit. Where
 * everything goes is checked before the first byte is written; if reading then fails, part of it has
 * been written. A file is regular, is read by position and from its beginning on; fds are borrowed.
 *
 * Codes that the loaders share: -ENOEXEC (no kernel, or a field that cannot be), -ENOTSUP (a good image
 * of a sort that is not loaded), -EINVAL (options; not a regular file), -E2BIG (options of a newer
 * version), -ERANGE (above the last address allowed), -ENOSPC (no room in memory), -EFAULT, -EACCES
 * (there is no memory that may be written at err->gpa; -ENOTSUP: it is a device's), -EIO (the file
 * shrank, or the host has no page), -ENOMEM, or what the kernel answered about the file.
 */
#ifndef GUESTMEM_LOADER_H
#define GUESTMEM_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>
#include <guestmem/memmap.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Formats of kernels. */
#define GM_KERNEL_ELF 0x1u /* 32 or 64 bits, little-endian: segments by their physical addresses */
#define GM_KERNEL_BZIMAGE 0x2u /* Linux for x86, boot protocol 2.00 and later */
#define GM_KERNEL_ARM64 0x4u   /* Linux' Image for arm64 */
#define GM_KERNEL_RISCV 0x8u   /* Linux' Image for RISC-V */
/* These are recognised and not loaded. */
#define GM_KERNEL_PE 0x10u    /* an EFI application and nothing else: firmware loads it */
#define GM_KERNEL_ZBOOT 0x20u /* one that holds a compressed Image */

#define GM_MACHINE_I386 0x1u
#define GM_MACHINE_X86_64 0x2u
#define GM_MACHINE_ARM64 0x4u
#define GM_MACHINE_RISCV32 0x8u
#define GM_MACHINE_RISCV64 0x10u

/* What is known of a kernel: flags. */
#define GM_KERNEL_ENTRY64 0x1u     /* entry64 is valid */
#define GM_KERNEL_ENTRY32 0x2u     /* entry32 is valid */
#define GM_KERNEL_ENTRY_PVH 0x4u   /* entry_pvh is valid */
#define GM_KERNEL_RELOCATABLE 0x8u /* GM_LOAD_AT can choose the address */
#define GM_KERNEL_ABOVE_4G 0x10u   /* it, its RAM disk and command line may lie above 4 GiB */
#define GM_KERNEL_BIG_ENDIAN 0x20u /* an Image whose kernel runs big-endian */
#define GM_KERNEL_EFI_STUB 0x40u   /* is an EFI application, too */

#define GM_SETUP_HEADER_MAX 160u /* bytes 0x1f1 to 0x290 of a bzImage, and one to spare */

/**
 * struct gm_kernel - what a kernel is, and where it was loaded
 * @size:        sizeof(struct gm_kernel), set by the caller
 * @format:      GM_KERNEL_ELF and so on
 * @machine:     GM_MACHINE_*; of a bzImage x86-64 if it has a 64-bit entry
 * @flags:       GM_KERNEL_* flags
 * @page_size:   bytes of the kernel's pages, 0 = it does not say (arm64 only)
 * @protocol:    version of the boot protocol, such as 0x020f (bzImage only)
 * @setup_len:   bytes of @setup that are there (bzImage only)
 * @first:       first address that it takes up
 * @last:        last one: zeroed memory, and what it needs to unpack itself, included
 * @entry64:     where the machine begins in 64-bit mode
 * @entry32:     where it begins in 32-bit protected mode
 * @entry_pvh:   where it begins by the PVH protocol, in 32-bit mode
 * @cmdline_max: bytes of its command line at most, without the NUL
 * @initrd_last: last address that its RAM disk may take up, as far as the format tells
 * @setup:       the setup header as it stands in the file from byte 0x1f1 on
 */
struct gm_kernel {
	size_t size;
	uint32_t format;
	uint32_t machine;
	uint32_t flags;
	uint32_t page_size;
	uint32_t protocol;
	uint32_t setup_len;
	uint64_t first;
	uint64_t last;
	uint64_t entry64;
	uint64_t entry32;
	uint64_t entry_pvh;
	uint64_t cmdline_max;
	uint64_t initrd_last;
	uint8_t setup[GM_SETUP_HEADER_MAX];
};

#define GM_LOAD_AT 0x1u /* at the address given */

/**
 * struct gm_load_opts - what may be loaded, and where to; zero means default
 * @size:     sizeof(struct gm_load_opts)
 * @formats:  GM_KERNEL_ELF, _BZIMAGE, _ARM64, _RISCV bits that are accepted; 0 = all
 * @machines: GM_MACHINE_* bits that are accepted; 0 = all
 * @flags:    GM_LOAD_AT: a bzImage goes to @addr; an Image to its text offset above @addr, a multiple of
 *            2 MiB; the lowest segment of a relocatable ELF (ET_DYN) to @addr. Without it a bzImage goes
 *            where it prefers, an ELF where it was linked for, an Image as low as memory allows
 * @reserved: zero
 * @addr:     guest physical address
 * @last:     nothing may lie above; 0 = 2^64 - 1
 */
struct gm_load_opts {
	size_t size;
	uint32_t formats;
	uint32_t machines;
	uint32_t flags;
	uint32_t reserved;
	uint64_t addr;
	uint64_t last;
};

/**
 * gm_kernel_probe() - look what a kernel is, without loading it
 * @fd:         borrowed
 * @ret_kernel: filled in, but for addresses; on success
 * @err:        optional
 *
 * All formats are recognised, those too that are not loaded. Returns 0 or as gm_load_kernel().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kernel_probe(int fd, struct gm_kernel *ret_kernel, struct gm_error *err);

/**
 * gm_load_kernel() - load a kernel of whatever format
 * @reader:     borrowed; not in a section
 * @fd:         borrowed
 * @opts:       borrowed; NULL = defaults
 * @ret_kernel: filled in; on success
 * @err:        optional; with its gpa where memory is at fault
 *
 * Segments of an ELF file must not overlap; what it wants zeroed is zeroed. The memory that a bzImage or
 * an Image needs behind its bytes must be there and is not touched.
 *
 * Returns 0; -EEXIST (segments overlap: err->gpa is the first common address); or one of the codes above.
 * Threads: owner of @reader. Since: 0.1.
 */
GM_API int gm_load_kernel(struct gm_reader *reader, int fd, const struct gm_load_opts *opts,
	struct gm_kernel *ret_kernel, struct gm_error *err);

/**
 * struct gm_load_place - which bytes of a file, and where to; zero means default
 * @size:     sizeof(struct gm_load_place)
 * @flags:    GM_LOAD_AT: to @first; else to the highest place
 * @reserved: zero
 * @first:    lowest address
 * @last:     highest address, inclusive; 0 = 2^64 - 1
 * @align:    of the first address, a power of two; 0 = 4096, with GM_LOAD_AT 1
 * @off:      first byte of the file
 * @max_len:  more bytes are refused; 0 = any number
 */
struct gm_load_place {
	size_t size;
	uint32_t flags;
	uint32_t reserved;
	uint64_t first;
	uint64_t last;
	uint64_t align;
	uint64_t off;
	uint64_t max_len;
};

/**
 * struct gm_loaded - bytes that were loaded
 * @gpa: first guest physical address
 * @len: bytes; 0 = nothing
 */
struct gm_loaded {
	uint64_t gpa;
	uint64_t len;
};

/**
 * gm_load_file() - load the bytes of a file as they are
 * @reader:     borrowed; not in a section
 * @fd:         borrowed
 * @place:      borrowed
 * @ret_loaded: where they are; on success
 * @err:        optional
 *
 * Without GM_LOAD_AT they go to the highest aligned address from which on there is memory for all of them
 * (several regions that follow each other will do).
 *
 * Returns 0; -ENODATA (no byte behind @off); -EFBIG (more than @max_len); or one of the codes above.
 * Threads: owner of @reader. Since: 0.1.
 */
GM_API int gm_load_file(struct gm_reader *reader, int fd, const struct gm_load_place *place,
	struct gm_loaded *ret_loaded, struct gm_error *err);

/**
 * gm_load_initrd() - load an initial RAM disk for a kernel that was loaded
 * @reader:     borrowed; not in a section
 * @fd:         borrowed
 * @kernel:     borrowed
 * @last:       nothing may lie above, besides what @kernel says; 0 = 2^64 - 1
 * @ret_loaded: where it is; on success
 * @err:        optional
 *
 * It goes as high as memory allows, above the kernel or else below it, on x86 not below 1 MiB.
 * Returns as gm_load_file().
 * Threads: owner of @reader. Since: 0.1.
 */
GM_API int gm_load_initrd(struct gm_reader *reader, int fd, const struct gm_kernel *kernel,
	uint64_t last, struct gm_loaded *ret_loaded, struct gm_error *err);

/**
 * gm_load_cmdline() - write a command line with its NUL
 * @reader:     borrowed
 * @kernel:     borrowed: its cmdline_max is the limit
 * @gpa:        guest physical address
 * @text:       borrowed, terminated
 * @ret_loaded: where it is, the NUL included; on success
 * @err:        optional
 *
 * Returns 0; -E2BIG (too long for the kernel); -EINVAL (no kernel); -ERANGE (wraps); -EFAULT, -EACCES,
 * -ENOTSUP, -EIO as above.
 * Threads: owner of @reader. Since: 0.1.
 */
GM_API int gm_load_cmdline(struct gm_reader *reader, const struct gm_kernel *kernel, uint64_t gpa,
	const char *text, struct gm_loaded *ret_loaded, struct gm_error *err);

/* ---- what an x86 guest is told ---- */

#define GM_BOOT_PARAMS_LEN 4096u

/**
 * struct gm_boot_info - what a kernel for x86 is told at boot; zero means none
 * @size:       sizeof(struct gm_boot_info)
 * @kernel:     borrowed: a bzImage or an ELF file
 * @cmdline:    the command line with its NUL
 * @initrd:     the initial RAM disk
 * @map:        borrowed; the guest's memory (memmap.h)
 * @nr_map:     entries of @map
 * @rsdp:       guest physical address of the ACPI tables' root, 0 = the guest searches
 * @setup_data: guest physical address of the first struct setup_data (boot_params only)
 * @loader:     type_of_loader (boot_params only), 0 = 0xff
 * @reserved:   zero
 */
struct gm_boot_info {
	size_t size;
	const struct gm_kernel *kernel;
	struct gm_loaded cmdline;
	struct gm_loaded initrd;
	const struct gm_memmap_entry *map;
	size_t nr_map;
	uint64_t rsdp;
	uint64_t setup_data;
	uint32_t loader;
	uint32_t reserved;
};

/**
 * gm_boot_params() - make struct boot_params (the zero page) of Linux' boot protocol
 * @info: borrowed
 * @page: filled in: GM_BOOT_PARAMS_LEN bytes, to be written to the guest; on success
 * @len:  bytes at @page
 * @err:  optional
 *
 * The setup header is the kernel's, or one that says as much as an ELF kernel asks.
 *
 * Returns 0; -ENOBUFS (@len); -EINVAL (options, no kernel for x86, map); -E2BIG (newer options, or more
 * records than fit); -ERANGE (something lies where this kernel cannot reach it: the text says what).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_boot_params(
	const struct gm_boot_info *info, void *page, size_t len, struct gm_error *err);

/**
 * gm_pvh_info() - make struct hvm_start_info of the PVH boot protocol, with its lists behind it
 * @info:       borrowed
 * @gpa:        guest physical address that the bytes will be written to, a multiple of 8
 * @buf:        room for @cap bytes; on success
 * @cap:        bytes at @buf
 * @ret_needed: bytes that there are, also with -ENOBUFS
 * @err:        optional
 *
 * Returns 0; -ENOBUFS; -EINVAL, -E2BIG, -ERANGE as gm_boot_params(), -ERANGE also for a @gpa above 4 GiB.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pvh_info(const struct gm_boot_info *info, uint64_t gpa, void *buf, size_t cap,
	size_t *ret_needed, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
