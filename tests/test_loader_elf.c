/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loader_elf.c - ELF files: where segments go, what is refused, and that another reader of ELF sees
 * the same.
 */
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "loader_guest.h"

#define E64(field) offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define P64(nr, field)                                                                             \
	sizeof(Elf64_Ehdr) + (nr) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field),              \
		sizeof(((Elf64_Phdr *)0)->field)
#define P32(nr, field)                                                                             \
	sizeof(Elf32_Ehdr) + (nr) * sizeof(Elf32_Phdr) + offsetof(Elf32_Phdr, field),              \
		sizeof(((Elf32_Phdr *)0)->field)
#define AT(field) (field), 1
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

#define TEXT ELF_PHDR_TEXT
#define DATA ELF_PHDR_DATA
#define NOTE ELF_PHDR_NOTE

#define OPTS(...) GM_OPTS(gm_load_opts, __VA_ARGS__)

static void assert_segments(uint64_t delta)
{
	assert_loaded(ELF_TEXT + delta, ELF_TEXT_OFF, ELF_TEXT_LEN);
	assert_loaded(ELF_DATA + delta, ELF_DATA_OFF, ELF_DATA_LEN);
	assert_zero(ELF_DATA + delta + ELF_DATA_LEN, ELF_DATA_MEM - ELF_DATA_LEN);
	assert_int_equal(kernel.first, ELF_TEXT + delta);
	assert_int_equal(kernel.last, ELF_DATA + delta + ELF_DATA_MEM - 1);
}

static void segments_go_to_their_physical_addresses(void **state)
{
	static const struct {
		unsigned int bits;
		unsigned int machine;
		uint32_t told;
		uint32_t flags;
	} kinds[] = {
		{64, EM_X86_64, GM_MACHINE_X86_64,
			GM_KERNEL_ENTRY64 | GM_KERNEL_ENTRY_PVH | GM_KERNEL_ABOVE_4G},
		{32, EM_386, GM_MACHINE_I386, GM_KERNEL_ENTRY32 | GM_KERNEL_ENTRY_PVH},
		{64, EM_AARCH64, GM_MACHINE_ARM64, GM_KERNEL_ENTRY64},
		{64, EM_RISCV, GM_MACHINE_RISCV64, GM_KERNEL_ENTRY64},
		{32, EM_RISCV, GM_MACHINE_RISCV32, GM_KERNEL_ENTRY32},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(kinds); i++) {
		image_elf(&image, kinds[i].bits, kinds[i].machine, ET_EXEC);
		fill(ELF_TEXT - 4096, 0xcc, MIB(1));
		assert_ok(load(NULL));
		assert_segments(0);
		assert_int_equal(kernel.format, GM_KERNEL_ELF);
		assert_int_equal(kernel.machine, kinds[i].told);
		assert_int_equal(kernel.flags, kinds[i].flags);
		assert_int_equal(kinds[i].bits == 64 ? kernel.entry64 : kernel.entry32, ELF_ENTRY);
		if (kinds[i].flags & GM_KERNEL_ENTRY_PVH)
			assert_int_equal(kernel.entry_pvh, ELF_PVH);
		/* Nothing around them was written. */
		for (uint64_t gpa = ELF_TEXT + ELF_TEXT_LEN; gpa < ELF_DATA; gpa++) {
			uint8_t byte = 0;

			gm_read_u8(gm_reader_enter(reader), gpa, &byte);
			gm_reader_leave(reader);
			assert_int_equal(byte, 0xcc);
		}
	}
}

static void a_field_at_its_limit_is_taken_and_one_behind_it_named(void **state)
{
	static const struct spoilt list[] = {
		{AT(EI_CLASS), 0, ENOEXEC, "EI_CLASS is 0x0"},
		{AT(EI_CLASS), 3, ENOEXEC, "EI_CLASS is 0x3"},
		{AT(EI_DATA), ELFDATA2MSB, ENOTSUP, "big-endian"},
		{AT(EI_DATA), 0, ENOEXEC, "EI_DATA is 0x0"},
		{AT(EI_VERSION), 2, ENOEXEC, "EI_VERSION is 0x2"},
		{E64(e_version), 0, ENOEXEC, "e_version"},
		{E64(e_type), ET_REL, ENOEXEC, "e_type is 0x1"},
		{E64(e_type), ET_DYN, 0, ""},
		{E64(e_type), ET_CORE, ENOEXEC, "e_type is 0x4"},
		{E64(e_machine), EM_386, ENOTSUP, "e_machine is 0x3"},
		{E64(e_machine), EM_S390, ENOTSUP, "e_machine is 0x16"},
		{E64(e_phentsize), 55, ENOEXEC, "e_phentsize is 0x37: must be 0x38"},
		{E64(e_phentsize), 57, ENOEXEC, "e_phentsize is 0x39: must be 0x38"},
		{E64(e_phnum), 0, ENOEXEC, "e_phnum is 0x0"},
		{E64(e_phnum), 1, ENOEXEC, "none of 1 program headers"},
		{E64(e_phnum), 257, ENOEXEC, "e_phnum is 0x101: more than 0x100"},
		{E64(e_phnum), 0xffff, ENOEXEC, "e_phnum is 0xffff"},
		{E64(e_phnum), 256, ENOEXEC, "e_phoff is 0x40"},
		{E64(e_phoff), UINT64_MAX, ENOEXEC, "e_phoff is 0xffffffffffffffff"},
		{E64(e_phoff), ELF_DATA_OFF + ELF_DATA_LEN - 4 * 56 + 1, ENOEXEC, "e_phoff"},
		{E64(e_entry), ELF_TEXT, 0, ""},
		{E64(e_entry), ELF_TEXT - 1, ENOEXEC, "e_entry is 0xfffff: in no segment"},
		{E64(e_entry), ELF_TEXT + ELF_TEXT_LEN - 1, 0, ""},
		{E64(e_entry), ELF_TEXT + ELF_TEXT_LEN, ENOEXEC, "e_entry"},
		{E64(e_entry), ELF_ENTRY + ELF_VIRTUAL, 0, ""},
		{E64(e_entry), ELF_TEXT + ELF_TEXT_LEN + ELF_VIRTUAL, ENOEXEC, "e_entry"},
		{P64(TEXT, p_offset), ELF_DATA_OFF + ELF_DATA_LEN + 1, ENOEXEC,
			"p_offset of program header 1"},
		{P64(TEXT, p_offset), UINT64_MAX, ENOEXEC, "p_offset of program header 1"},
		{P64(TEXT, p_filesz), ELF_TEXT_LEN + 1, ENOEXEC, "p_memsz of program header 1"},
		{P64(TEXT, p_filesz), ELF_TEXT_LEN - 1, 0, ""},
		{P64(DATA, p_filesz), ELF_DATA_LEN + 1, ENOEXEC, "p_filesz of program header 2"},
		{P64(DATA, p_filesz), UINT64_MAX, ENOEXEC, "p_filesz of program header 2"},
		{P64(DATA, p_memsz), ELF_DATA_LEN, 0, ""},
		{P64(DATA, p_memsz), ELF_DATA_LEN - 1, ENOEXEC,
			"p_memsz of program header 2 is 0x122: less than p_filesz, 0x123"},
		{P64(DATA, p_memsz), UINT64_MAX - ELF_DATA + 2, ENOEXEC, "p_paddr"},
		{P64(DATA, p_memsz), UINT64_MAX - ELF_DATA + 1, EFAULT, "0x1800000"},
		{P64(DATA, p_memsz), RAM_LEN - ELF_DATA + 1, EFAULT, "0x1800000"},
		{P64(DATA, p_paddr), UINT64_MAX, ENOEXEC, "p_paddr of program header 2"},
		{P64(DATA, p_paddr), ELF_TEXT + ELF_TEXT_LEN - 1, EEXIST,
			"overlaps program header 0x1"},
		{P64(DATA, p_paddr), ELF_TEXT + ELF_TEXT_LEN, 0, ""},
		{P64(DATA, p_paddr), ELF_TEXT - ELF_DATA_MEM, 0, ""},
		{P64(DATA, p_paddr), ELF_TEXT - ELF_DATA_MEM + 1, EEXIST, "p_paddr"},
		{P64(DATA, p_paddr), ELF_TEXT, EEXIST, "0x100000"},
		{P64(DATA, p_paddr), RAM_LEN - ELF_DATA_MEM, 0, ""},
		{P64(DATA, p_paddr), RAM_LEN - ELF_DATA_MEM + 1, EFAULT, "nothing is mapped"},
		{P64(DATA, p_paddr), ROM, EACCES, "may not be written at 0x4000000"},
		{P64(DATA, p_paddr), MMIO, ENOTSUP, "a device"},
		{P64(DATA, p_align), 3, ENOEXEC, "p_align of program header 2"},
		{P64(DATA, p_align), 0, 0, ""},
		{P64(DATA, p_align), 1, 0, ""},
		{P64(NOTE, p_offset), UINT64_MAX, ENOEXEC, "p_offset of program header 0"},
		{P64(NOTE, p_filesz), 0x100000, ENOEXEC, "p_filesz of program header 0"},
		{P64(NOTE, p_filesz), 0, 0, ""},
		{P64(NOTE, p_filesz), ELF_NOTE_LEN - 1, ENOEXEC, "n_descsz of a note"},
		{P64(NOTE, p_filesz), 37, ENOEXEC, "n_namesz of a note"},
		{P64(NOTE, p_type), PT_NULL, 0, ""},
		{P64(TEXT, p_type), PT_NULL, ENOEXEC, "e_entry"},
	};

	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	try_all(list, COUNT(list), ELF_TEXT);
	assert_int_equal(nr_mmio, 0);
}

static void the_same_in_32_bits(void **state)
{
	static const struct spoilt list[] = {
		{offsetof(Elf32_Ehdr, e_phentsize), 2, 56, ENOEXEC, "e_phentsize is 0x38"},
		{offsetof(Elf32_Ehdr, e_phoff), 4, UINT32_MAX, ENOEXEC, "e_phoff"},
		{offsetof(Elf32_Ehdr, e_machine), 2, EM_X86_64, ENOTSUP, "e_machine"},
		{offsetof(Elf32_Ehdr, e_machine), 2, EM_AARCH64, ENOTSUP, "e_machine"},
		{offsetof(Elf32_Ehdr, e_entry), 4, 0, ENOEXEC, "e_entry is 0x0"},
		{P32(DATA, p_memsz), UINT32_MAX, EFAULT, "nothing is mapped at 0x1800000"},
		{P32(DATA, p_filesz), UINT32_MAX, ENOEXEC, "p_filesz"},
		{P32(DATA, p_offset), UINT32_MAX, ENOEXEC, "p_offset"},
		{P32(DATA, p_paddr), UINT32_MAX, EFAULT, "nothing is mapped at 0xffffffff"},
	};

	(void)state;
	image_elf(&image, 32, EM_386, ET_EXEC);
	try_all(list, COUNT(list), ELF_TEXT);
}

static void overlap_names_the_first_common_address(void **state)
{
	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	image_put(&image, P64(DATA, p_paddr), ELF_TEXT + 0x123);
	assert_fails(load(NULL), EEXIST, "program header 2");
	assert_int_equal(err.gpa, ELF_TEXT + 0x123);
}

static void the_note_of_pvh_is_found_and_checked(void **state)
{
	const size_t note = ELF_NOTE_OFF + ELF_NOTE_LEN / 2;
	const struct spoilt list[] = {
		{note, 4, 3, 0, ""}, /* another name */
		{note, 4, 5, ENOEXEC, "n_descsz of a note"},
		{note, 4, UINT32_MAX, ENOEXEC, "n_namesz of a note of program header 0"},
		{note + 4, 4, 9, ENOEXEC, "n_descsz of a note of program header 0"},
		{note + 4, 4, UINT32_MAX, ENOEXEC, "n_descsz"},
		{note + 4, 4, 4, 0, ""},
		{note + 4, 4, 0, ENOEXEC, "n_descsz of the PVH entry"},
		{note + 8, 4, 17, 0, ""},
		{note + 12, 4, 0x6e6559, 0, ""},
		{note + 16, 8, ELF_TEXT - 1, ENOEXEC, "PVH entry is 0xfffff: in no segment"},
		{ELF_NOTE_OFF, 4, UINT32_MAX - 3, ENOEXEC, "n_namesz"},
		{ELF_NOTE_OFF + 4, 4, UINT32_MAX - 3, ENOEXEC, "n_descsz"},
	};

	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	try_all(list, COUNT(list), ELF_TEXT);
	image_put(&image, note + 8, 4, 17);
	assert_ok(load(NULL));
	assert_false(kernel.flags & GM_KERNEL_ENTRY_PVH);
	/* Other machines have other notes. */
	image_elf(&image, 64, EM_AARCH64, ET_EXEC);
	image_put(&image, note + 4, 4, UINT32_MAX);
	assert_ok(load(NULL));
	assert_false(kernel.flags & GM_KERNEL_ENTRY_PVH);
}

static void the_pvh_entry_lies_below_4_gib(void **state)
{
	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_DYN);
	assert_fails(load(OPTS(.flags = GM_LOAD_AT, .addr = HIGH)), ERANGE, "PVH");
	image_put(&image, P64(NOTE, p_type), PT_NULL);
	assert_ok(load(OPTS(.flags = GM_LOAD_AT, .addr = HIGH)));
	assert_segments(HIGH - ELF_TEXT);
}

static void a_relocatable_file_goes_where_it_is_told(void **state)
{
	static const uint64_t addrs[] = {0, 0x1000, ELF_TEXT, MIB(2), RAM_LEN - 0x7000};

	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_DYN);
	for (size_t i = 0; i < COUNT(addrs); i++) {
		uint64_t delta = addrs[i] - ELF_TEXT;

		assert_ok(load(OPTS(.flags = GM_LOAD_AT, .addr = addrs[i])));
		assert_segments(delta);
		assert_int_equal(kernel.entry64, ELF_ENTRY + delta);
		assert_int_equal(kernel.entry_pvh, ELF_PVH + delta);
		assert_true(kernel.flags & GM_KERNEL_RELOCATABLE);
	}
	assert_fails(load(OPTS(.flags = GM_LOAD_AT, .addr = 0x1800)), EINVAL, "p_align");
	assert_fails(load(OPTS(.flags = GM_LOAD_AT, .addr = UINT64_MAX - 0xfff)), ENOEXEC, "wraps");
	assert_fails(
		load(OPTS(.flags = GM_LOAD_AT, .addr = RAM_LEN - 0x6000)), EFAULT, "0x1800000");
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	assert_fails(load(OPTS(.flags = GM_LOAD_AT, .addr = MIB(2))), EINVAL, "ET_EXEC");
}

static void nothing_lies_above_the_last_address_allowed(void **state)
{
	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	assert_ok(load(OPTS(.last = ELF_DATA + ELF_DATA_MEM - 1)));
	assert_fails(load(OPTS(.last = ELF_DATA + ELF_DATA_MEM - 2)), ERANGE, "0x106fff");
}

static void each_cut_of_the_file_is_refused(void **state)
{
	(void)state;
	for (unsigned int bits = 32; bits <= 64; bits += 32) {
		image_elf(&image, bits, bits == 64 ? EM_X86_64 : EM_386, ET_EXEC);
		fill(ELF_TEXT, 0, KIB(64));
		for (size_t len = image.len; len-- > 0;) {
			image.len = len;
			assert_true(load(NULL) == -ENOEXEC);
			assert_true(err.code == -ENOEXEC && err.text[0]);
			assert_zero(ELF_TEXT, KIB(8));
		}
	}
}

/* ---- another reader of ELF ---- */

struct phdr {
	uint64_t off, vaddr, paddr, file_len, len;
};

/* What readelf says of a file: PT_LOAD segments and the entry. */
static size_t ask_readelf(const char *path, struct phdr *list, size_t cap, uint64_t *ret_entry)
{
	char line[512];
	size_t nr = 0;
	FILE *pipe;

	snprintf(line, sizeof(line), "LC_ALL=C readelf -lW '%s'", path);
	pipe = popen(line, "r"); /* NOLINT */
	assert_non_null(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		struct phdr *p = &list[nr];

		sscanf(line, "Entry point 0x%" SCNx64, ret_entry);
		if (nr < cap && sscanf(line,
					" LOAD 0x%" SCNx64 " 0x%" SCNx64 " 0x%" SCNx64 " 0x%" SCNx64
					" 0x%" SCNx64,
					&p->off, &p->vaddr, &p->paddr, &p->file_len, &p->len) == 5)
			nr++;
	}
	assert_int_equal(pclose(pipe), 0);
	return nr;
}

/* Is the guest's memory at @gpa what the file has at @off? */
static void compare_with_file(int fd, uint64_t off, uint64_t gpa, uint64_t len)
{
	static uint8_t buf[65536];

	while (len) {
		ssize_t nr = pread(fd, buf, len < sizeof(buf) ? len : sizeof(buf), (off_t)off);
		const struct gm_view *view = gm_reader_enter(reader);
		int order = 1;

		assert_true(nr > 0);
		assert_int_equal(gm_compare(view, gpa, buf, (size_t)nr, &order, NULL), 0);
		gm_reader_leave(reader);
		assert_int_equal(order, 0);
		off += (uint64_t)nr;
		gpa += (uint64_t)nr;
		len -= (uint64_t)nr;
	}
}

static void check_real_file(const char *path, uint64_t base)
{
	struct phdr list[32];
	uint64_t entry = 0;
	uint64_t first = UINT64_MAX;
	uint64_t last = 0;
	size_t nr = ask_readelf(path, list, COUNT(list), &entry);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && nr >= 2 && entry != 0);
	kernel.size = sizeof(kernel);
	assert_ok(
		gm_load_kernel(reader, fd, OPTS(.flags = GM_LOAD_AT, .addr = base), &kernel, &err));
	for (size_t i = 0; i < nr; i++) {
		uint64_t gpa = list[i].paddr - list[0].paddr + base;

		compare_with_file(fd, list[i].off, gpa, list[i].file_len);
		assert_zero(gpa + list[i].file_len, list[i].len - list[i].file_len);
		first = gpa < first ? gpa : first;
		last = gpa + list[i].len - 1 > last ? gpa + list[i].len - 1 : last;
	}
	assert_int_equal(kernel.first, first);
	assert_int_equal(kernel.last, last);
	assert_int_equal(kernel.flags & GM_KERNEL_ENTRY64 ? kernel.entry64 : kernel.entry32,
		entry - list[0].paddr + base);
	close(fd);
}

/* Whatever was linked on this machine will do: the test itself, the C library. */
static void real_files_are_loaded_as_readelf_sees_them(void **state)
{
	char self[256];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	assert_true(len > 0);
	self[len] = '\0';
	add_ram(GIB(1), MIB(256));
	fill(GIB(1), 0xcc, MIB(16));
	check_real_file(self, GIB(1));
}

/* ---- what was not loaded ---- */

static void probing_tells_the_same_without_memory(void **state)
{
	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_DYN);
	assert_ok(probe());
	assert_int_equal(kernel.format, GM_KERNEL_ELF);
	assert_int_equal(kernel.machine, GM_MACHINE_X86_64);
	assert_int_equal(kernel.flags, GM_KERNEL_ENTRY64 | GM_KERNEL_ENTRY_PVH |
					       GM_KERNEL_RELOCATABLE | GM_KERNEL_ABOVE_4G);
	assert_int_equal(kernel.first, 0);
	assert_int_equal(kernel.cmdline_max, 2047);
	image_put(&image, E64(e_phnum), 300);
	assert_fails(probe(), ENOEXEC, "e_phnum");
}

static void machines_that_are_not_wanted_are_refused(void **state)
{
	(void)state;
	image_elf(&image, 64, EM_X86_64, ET_EXEC);
	assert_ok(load(OPTS(.machines = GM_MACHINE_X86_64)));
	assert_fails(load(OPTS(.machines = GM_MACHINE_I386 | GM_MACHINE_ARM64)), ENOTSUP, "x86-64");
	assert_fails(load(OPTS(.formats = GM_KERNEL_BZIMAGE)), ENOTSUP, "ELF");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(segments_go_to_their_physical_addresses),
		TEST(a_field_at_its_limit_is_taken_and_one_behind_it_named),
		TEST(the_same_in_32_bits),
		TEST(overlap_names_the_first_common_address),
		TEST(the_note_of_pvh_is_found_and_checked),
		TEST(the_pvh_entry_lies_below_4_gib),
		TEST(a_relocatable_file_goes_where_it_is_told),
		TEST(nothing_lies_above_the_last_address_allowed),
		TEST(each_cut_of_the_file_is_refused),
		TEST(real_files_are_loaded_as_readelf_sees_them),
		TEST(probing_tells_the_same_without_memory),
		TEST(machines_that_are_not_wanted_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
