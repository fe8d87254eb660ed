/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c - asks the host about the backing of its own memory, through the registers of the control page or, every
 * other vCPU, its ports, and looks whether memory is what it must be then. Each wrong answer is an error.
 *
 * A vCPU's first page has its buffer; it works on the pages behind it.
 */
#include "payload.h"

#define PAGES 64u /* that it works on */
#define HUGE (UINT64_C(2) << 20)

/* Commands, as in guestmem/control_message.h. */
#define COMMAND_RESET 0x060fe6d2u
#define COMMAND_REGISTER 0x0e359539u
#define COMMAND_READY 0x0ca8d227u
#define COMMAND_ACK 0x03cf5196u
#define FIRST_BUFFER 0x80000000u

/* Functions, as in guestmem/control.h. */
enum {
	INFO = 0,
	DONTNEED = 1,
	REMOVE = 2,
	FREE = 3,
	MLOCK = 7,
	MUNLOCK = 8,
	PROTECT_NONE = 9,
	PROTECT_R = 10,
	PROTECT_RW = 12,
	QUERY = 0x10001,
	POPULATE = 0x10004,
	COLLAPSE = 0x10005,
	HUGE_PAGES = 0x10006,
	BATCH = 0x1000b,
};

#define ERRNO_AGAIN 11u
#define ERRNO_INVALID 22u
#define ERRNO_NOT_SUPPORTED 95u

struct answer {
	uint32_t code;
	uint32_t refused;
	uint64_t value;
	uint64_t arg0;
	uint64_t arg1;
};

/* ---- registers ---- */

static void write_port(uint16_t port, uint32_t value)
{
#if defined(__x86_64__)
	__asm__ volatile("outl %0, %1" : : "a"(value), "d"(port) : "memory");
#else
	(void)port;
	(void)value;
#endif
}

static void write_register(const struct run_params *p, uint32_t off, uint32_t value)
{
	if (p->vcpu % 2)
		write_port((uint16_t)(RUN_PORT_CONTROL + off), value);
	else
		__atomic_store_n(
			(uint32_t *)(uintptr_t)(p->control + off), value, __ATOMIC_SEQ_CST);
}

static uint32_t read_register(const struct run_params *p, uint32_t off)
{
	return __atomic_load_n((const uint32_t *)(uintptr_t)(p->control + off), __ATOMIC_SEQ_CST);
}

/* As the engine shares it out. */
static uint64_t mem_of(const struct run_params *p, uint32_t vcpu)
{
	return p->all + vcpu * (p->all_len / PAYLOAD_PAGE / p->nr_vcpus * PAYLOAD_PAGE);
}

static void check_command(struct run_params *p, uint32_t command)
{
	write_register(p, 8, command);
	payload_check(p, p->control + 8, read_register(p, 8), COMMAND_ACK);
}

/* The first vCPU does it for all; the word behind its buffer says that it is done. */
static bool connect(struct run_params *p)
{
	uint64_t ready = p->all + 64;

	while (p->vcpu && !payload_load(ready)) {
		if (payload_stopped(p))
			return false;
	}
	if (p->vcpu)
		return true;
	check_command(p, COMMAND_RESET);
	for (uint32_t i = 0; i < p->nr_vcpus; i++) {
		uint64_t gpa = mem_of(p, i);

		write_register(p, 0, (uint32_t)gpa);
		write_register(p, 4, (uint32_t)(gpa >> 32));
		check_command(p, COMMAND_REGISTER);
		payload_check(p, p->control, read_register(p, 0), FIRST_BUFFER + i);
	}
	check_command(p, COMMAND_READY);
	payload_store8(ready, 1);
	return true;
}

/* ---- requests ---- */

static struct answer ask(struct run_params *p, uint64_t code, uint64_t addr, uint64_t len)
{
	struct answer a;
	uint64_t word;

	payload_store8(p->mem, code);
	payload_store8(p->mem + 8, addr);
	payload_store8(p->mem + 16, len);
	payload_store8(p->mem + 24, 0);
	write_register(p, 8, FIRST_BUFFER + p->vcpu);
	word = payload_load(p->mem);
	a.code = (uint32_t)word;
	a.refused = (uint32_t)(word >> 32);
	a.value = payload_load(p->mem + 8);
	a.arg0 = payload_load(p->mem + 16);
	a.arg1 = payload_load(p->mem + 24);
	p->ops++;
	p->figures[0]++;
	if (a.code == ERRNO_AGAIN)
		p->figures[2]++;
	else if (a.code)
		p->figures[1]++;
	return a;
}

/* With a rate it has to wait for its turn. */
static struct answer ask_patiently(struct run_params *p, uint64_t code, uint64_t addr, uint64_t len)
{
	struct answer a;

	do {
		a = ask(p, code, addr, len);
	} while (a.code == ERRNO_AGAIN && !payload_stopped(p));
	return a;
}

static void do_well(struct run_params *p, uint64_t code, uint64_t addr, uint64_t len)
{
	struct answer a = ask_patiently(p, code, addr, len);

	payload_check(p, addr, a.code, 0);
	payload_check(p, addr, a.arg0, len);
}

static void be_refused(
	struct run_params *p, uint64_t code, uint64_t addr, uint64_t len, uint32_t error)
{
	struct answer a = ask_patiently(p, code, addr, len);

	payload_check(p, addr, a.code, error);
	payload_check(p, addr, a.refused, (uint32_t)code);
	payload_check(p, addr, a.arg0, 0);
}

/* ---- memory ---- */

/* In a huge page's place behind the buffer's page. */
static uint64_t page(const struct run_params *p, uint32_t i)
{
	return (p->mem + PAYLOAD_PAGE + HUGE - 1) / HUGE * HUGE + i * PAYLOAD_PAGE;
}

static uint64_t stamp_of(const struct run_params *p, uint32_t i)
{
	return payload_mix(p->seed ^ ((uint64_t)p->vcpu << 32) ^ i) | 1;
}

static void stamp(const struct run_params *p)
{
	for (uint32_t i = 0; i < PAGES; i++)
		payload_store8(page(p, i), stamp_of(p, i));
}

/* Pages from @first on have their stamps, or zeros. */
static void check_pages(struct run_params *p, uint32_t first, uint32_t nr, bool zeros)
{
	for (uint32_t i = first; i < first + nr; i++)
		payload_check(p, page(p, i), payload_load(page(p, i)), zeros ? 0 : stamp_of(p, i));
}

/* What is freed is zeros; in pages of the host's size, which are at most 2 MiB here. */
static void try_freeing(struct run_params *p, uint64_t size)
{
	static const uint32_t codes[] = {DONTNEED, REMOVE, FREE};

	for (uint32_t c = 0; c < 3; c++) {
		uint32_t nr = size == PAYLOAD_PAGE ? PAGES / 2 : PAGES;

		stamp(p);
		do_well(p, codes[c], page(p, 0), size == PAYLOAD_PAGE ? nr * size : HUGE);
		if (codes[c] != FREE)
			check_pages(p, 0, nr, true);
		check_pages(p, nr, PAGES - nr, false);
		stamp(p);
		check_pages(p, 0, PAGES, false);
	}
}

static void try_filling(struct run_params *p)
{
	struct answer a;

	do_well(p, DONTNEED, page(p, 0), HUGE);
	a = ask_patiently(p, QUERY, page(p, 0), HUGE);
	payload_check(p, page(p, 0), a.arg0, 0);
	do_well(p, POPULATE, page(p, 0), HUGE);
	a = ask_patiently(p, QUERY, page(p, 0), HUGE);
	payload_check(p, page(p, 0), a.arg0, HUGE);
	stamp(p);
	a = ask_patiently(p, COLLAPSE, page(p, 0), HUGE);
	/* Not where the host asked for base pages, until the guest asks for huge ones. */
	if (a.code == ERRNO_INVALID && ask_patiently(p, HUGE_PAGES, page(p, 0), HUGE).code == 0)
		a = ask_patiently(p, COLLAPSE, page(p, 0), HUGE);
	/* Explicit huge pages have no need of it. */
	if (a.code != ERRNO_NOT_SUPPORTED && a.code != ERRNO_INVALID) {
		payload_check(p, page(p, 0), a.code, 0);
		a = ask_patiently(p, QUERY, page(p, 0), HUGE);
		payload_check(p, page(p, 0), a.arg1, HUGE);
	}
	check_pages(p, 0, PAGES, false);
	do_well(p, MLOCK, page(p, 0), HUGE);
	do_well(p, MUNLOCK, page(p, 0), HUGE);
	check_pages(p, 0, PAGES, false);
}

/* A write to what is protected ends the run of this vCPU; the machine lifts protection, and says so. */
static void try_protection(struct run_params *p)
{
	uint64_t lifted = p->mailbox + RUN_MAILBOX_LIFTED;
	uint64_t before = payload_load(lifted);

	stamp(p);
	do_well(p, PROTECT_R, page(p, 0), HUGE);
	check_pages(p, 0, PAGES, false);
	/* Others may lift what is protected here, but nobody else may meet it. */
	if (p->nr_vcpus == 1)
		payload_check(p, lifted, payload_load(lifted), before);
	payload_store8(page(p, 1), 77);
	payload_check(p, page(p, 1), payload_load(page(p, 1)), 77);
	if (p->nr_vcpus == 1)
		payload_check(p, lifted, payload_load(lifted), before + 1);
	do_well(p, PROTECT_NONE, page(p, 0), HUGE);
	payload_check(p, page(p, 2), payload_load(page(p, 2)), stamp_of(p, 2));
	if (p->nr_vcpus == 1)
		payload_check(p, lifted, payload_load(lifted), before + 2);
	do_well(p, PROTECT_NONE, page(p, 0), HUGE);
	do_well(p, PROTECT_RW, page(p, 0), HUGE);
	stamp(p);
	check_pages(p, 0, PAGES, false);
	p->figures[3] = payload_load(lifted);
}

static void try_nonsense(struct run_params *p)
{
	uint64_t end = p->all + p->all_len;

	be_refused(p, DONTNEED, page(p, 0), 0, ERRNO_INVALID);
	be_refused(p, DONTNEED, page(p, 0) + 1, PAYLOAD_PAGE, ERRNO_INVALID);
	be_refused(p, DONTNEED, page(p, 0), 100, ERRNO_INVALID);
	be_refused(p, DONTNEED, end + (UINT64_C(1) << 40), HUGE, ERRNO_INVALID);
	be_refused(p, REMOVE, p->control, PAYLOAD_PAGE, ERRNO_INVALID);
	be_refused(p, MLOCK, p->mailbox - PAYLOAD_PAGE, 2 * PAYLOAD_PAGE, ERRNO_INVALID);
	be_refused(p, PROTECT_NONE, UINT64_MAX - PAYLOAD_PAGE + 1, 2 * PAYLOAD_PAGE, ERRNO_INVALID);
	be_refused(p, FREE, page(p, 0), UINT64_MAX - PAYLOAD_PAGE + 1, ERRNO_INVALID);
	be_refused(p, 99, page(p, 0), PAYLOAD_PAGE, ERRNO_NOT_SUPPORTED);
	be_refused(p, BATCH, p->mem + 128, 33, ERRNO_INVALID);
	check_pages(p, 0, PAGES, false);
}

/* As many as it can, one by one and many at once. */
static void flood(struct run_params *p)
{
	for (uint64_t i = 0; i < p->arg[RUN_ARG_COUNT] && !payload_stopped(p); i++) {
		struct answer a = ask(p, INFO, 0, 0);

		if (a.code == ERRNO_AGAIN)
			continue;
		payload_check(p, p->mem, a.code, 0);
		payload_check(p, p->mem, a.value, PAYLOAD_PAGE);
		payload_check(p, p->mem, a.arg0, 1);
	}
	for (uint32_t i = 0; i < 64; i++) {
		uint64_t at = p->mem + 1024 + 32 * i;

		payload_store8(at, INFO);
		payload_store8(at + 8, 0);
		payload_store8(at + 16, 0);
		payload_store8(at + 24, 0);
	}
	payload_check(p, p->mem + 1024, ask_patiently(p, BATCH, p->mem + 1024, 64 * 32).code, 0);
}

void payload_control(struct run_params *p)
{
	uint64_t begun;
	struct answer a;

	if (!p->control || p->mem_len < 2 * HUGE || page(p, 0) - p->mem > p->mem_len - HUGE) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	if (!connect(p))
		return;
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	for (uint64_t i = 0; i < p->arg[RUN_ARG_ROUNDS] && !payload_stopped(p); i++) {
		a = ask_patiently(p, QUERY, page(p, 0), HUGE);
		if (a.code || a.value > HUGE) {
			p->status = RUN_IMPOSSIBLE;
			break;
		}
		try_freeing(p, a.value);
		try_filling(p);
		try_protection(p);
		try_nonsense(p);
		flood(p);
		payload_progress(p, i + 1);
	}
	p->ticks = payload_ticks() - begun;
	p->bytes = p->ops * 32;
}
