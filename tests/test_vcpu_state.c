/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vcpu_state.c - the state of a vCPU as bytes: what is written is read, nothing else is taken; and with KVM. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../tool/vcpu_state.h"
#include "random.h"
#include "support.h"

static void fill(struct rng *rng, void *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = (uint8_t)rng_next(rng);
}

/* Any state that there could be. */
static struct vcpu_state *make_state(struct rng *rng)
{
	struct vcpu_state *s = test_calloc(1, sizeof(*s));

	fill(rng, &s->regs, sizeof(s->regs));
	fill(rng, &s->sregs, sizeof(s->sregs));
	s->have = 1u << VCPU_REGS | 1u << VCPU_SREGS | 1u << VCPU_MSRS;
	s->nr_msrs = (uint32_t)rng_below(rng, 100);
	fill(rng, s->msrs, s->nr_msrs * sizeof(s->msrs[0]));
	if (rng_below(rng, 2)) {
		s->have |= 1u << VCPU_XSAVE;
		s->xsave_len = 64 * (9 + (uint32_t)rng_below(rng, 50));
		fill(rng, s->xsave, s->xsave_len);
	} else {
		s->have |= 1u << VCPU_FPU;
		fill(rng, &s->fpu, sizeof(s->fpu));
	}
	if (rng_below(rng, 2)) {
		s->have |= 1u << VCPU_EVENTS | 1u << VCPU_LAPIC;
		fill(rng, &s->events, sizeof(s->events));
		fill(rng, &s->lapic, sizeof(s->lapic));
	}
	if (rng_below(rng, 2)) {
		s->have |= 1u << VCPU_CPUID | 1u << VCPU_TSC_KHZ | 1u << VCPU_MP_STATE;
		s->nr_cpuid = (uint32_t)rng_below(rng, VCPU_CPUID_MAX + 1);
		fill(rng, s->cpuid, s->nr_cpuid * sizeof(s->cpuid[0]));
		s->tsc_khz = rng_next(rng);
		fill(rng, &s->mp_state, sizeof(s->mp_state));
	}
	return s;
}

static uint8_t *encode(const struct vcpu_state *s, size_t *ret_len)
{
	uint8_t *buf = test_malloc(*ret_len = vcpu_state_len(s));

	vcpu_state_encode(s, buf);
	return buf;
}

/* At its exact length, so that a sanitizer sees a step outside. */
static const char *decode(const uint8_t *buf, size_t len, struct vcpu_state *ret)
{
	uint8_t *copy = malloc(len ? len : 1);
	const char *why;

	assert_non_null(copy);
	memcpy(copy, buf, len);
	why = vcpu_state_decode(copy, len, ret);
	free(copy);
	return why;
}

static void put_checksum(uint8_t *buf, size_t len)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = VCPU_STATE_HEADER_LEN; i < len; i++)
		sum = (sum ^ buf[i]) * UINT64_C(0x100000001b3);
	memcpy(buf + 24, &sum, sizeof(sum));
}

static void what_is_written_is_read(void **state)
{
	struct rng rng = {test_seed(1)};
	struct vcpu_state *got = test_malloc(sizeof(*got));

	(void)state;
	for (unsigned long n = 0; n < support_scale(200); n++) {
		struct vcpu_state *s = make_state(&rng);
		size_t len;
		uint8_t *buf = encode(s, &len);

		assert_null(decode(buf, len, got));
		assert_memory_equal(got, s, sizeof(*s));
		test_free(buf);
		test_free(s);
	}
	test_free(got);
}

static void what_is_cut_short_is_refused(void **state)
{
	struct rng rng = {test_seed(2)};
	struct vcpu_state *s = make_state(&rng);
	struct vcpu_state *got = test_malloc(sizeof(*got));
	size_t len;
	uint8_t *buf = encode(s, &len);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		uint32_t cut32 = (uint32_t)cut;
		uint8_t *copy = test_malloc(len);

		assert_non_null(decode(buf, cut, got));
		/* And if all of its header says so. */
		memcpy(copy, buf, len);
		memcpy(copy + 12, &cut32, sizeof(cut32));
		if (cut >= VCPU_STATE_HEADER_LEN) {
			put_checksum(copy, cut);
			assert_non_null(decode(copy, cut, got));
		}
		test_free(copy);
	}
	test_free(buf);
	test_free(got);
	test_free(s);
}

static void every_changed_bit_is_seen(void **state)
{
	struct rng rng = {test_seed(3)};
	struct vcpu_state *s = make_state(&rng);
	struct vcpu_state *got = test_malloc(sizeof(*got));
	size_t len;
	uint8_t *buf = encode(s, &len);

	(void)state;
	for (size_t n = 0; n < support_scale(3000); n++) {
		size_t bit = n < 256 ? n : rng_below(&rng, len * 8);

		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_non_null(decode(buf, len, got));
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_null(decode(buf, len, got));
	test_free(buf);
	test_free(got);
	test_free(s);
}

/* Writes a number into the first record's head and makes the checksum right again. */
static const char *with(const uint8_t *buf, size_t len, size_t at, uint32_t value)
{
	struct vcpu_state *got = test_malloc(sizeof(*got));
	uint8_t *copy = test_malloc(len);
	const char *why;

	memcpy(copy, buf, len);
	memcpy(copy + at, &value, sizeof(value));
	put_checksum(copy, len);
	why = decode(copy, len, got);
	test_free(copy);
	test_free(got);
	return why;
}

static void records_that_cannot_be_are_refused(void **state)
{
	struct rng rng = {test_seed(4)};
	struct vcpu_state *s = make_state(&rng);
	size_t len;
	uint8_t *buf = encode(s, &len);
	const size_t type = VCPU_STATE_HEADER_LEN;

	(void)state;
	assert_null(with(buf, len, type, VCPU_REGS));
	assert_string_equal(with(buf, len, type, 0), "has a record that is not known");
	assert_string_equal(
		with(buf, len, type, VCPU_NR_RECORDS), "has a record that is not known");
	assert_string_equal(with(buf, len, type, UINT32_MAX), "has a record that is not known");
	assert_string_equal(with(buf, len, type, VCPU_SREGS), "has a record of a wrong length");
	assert_string_equal(with(buf, len, type + 4, sizeof(struct kvm_regs) + 8),
		"has a record of a wrong length");
	assert_string_equal(with(buf, len, type + 4, UINT32_MAX), "has a record of a wrong length");
	assert_string_equal(with(buf, len, 16, 99), "has another number of records than it says");
	test_free(buf);
	test_free(s);
}

static void a_record_that_comes_twice_is_refused(void **state)
{
	struct rng rng = {test_seed(5)};
	struct vcpu_state *s = make_state(&rng);
	struct vcpu_state *got = test_malloc(sizeof(*got));
	size_t len;
	uint8_t *buf = encode(s, &len);
	const size_t record = 8 + sizeof(struct kvm_regs);
	uint8_t *more = test_malloc(len + record);
	uint32_t len32 = (uint32_t)(len + record);

	(void)state;
	memcpy(more, buf, len);
	memcpy(more + len, buf + VCPU_STATE_HEADER_LEN, record);
	memcpy(more + 12, &len32, sizeof(len32));
	put_checksum(more, len32);
	assert_string_equal(decode(more, len32, got), "has a record twice");
	test_free(more);
	test_free(buf);
	test_free(got);
	test_free(s);
}

static void a_state_without_what_it_needs_is_refused(void **state)
{
	static const uint32_t all =
		1u << VCPU_REGS | 1u << VCPU_SREGS | 1u << VCPU_MSRS | 1u << VCPU_FPU;
	struct vcpu_state *s = test_calloc(1, sizeof(*s));
	struct vcpu_state *got = test_malloc(sizeof(*got));

	(void)state;
	for (uint32_t bit = 0; bit < VCPU_NR_RECORDS; bit++) {
		size_t len;
		uint8_t *buf;

		s->have = all & ~(1u << bit);
		buf = encode(s, &len);
		if (s->have == all)
			assert_null(decode(buf, len, got));
		else
			assert_non_null(decode(buf, len, got));
		test_free(buf);
	}
	test_free(s);
	test_free(got);
}

/* ---- with KVM ---- */

struct vm {
	int kvm;
	int vm;
	int vcpu;
};

static bool make_vm(struct vm *vm)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return false;
	vm->vm = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0);
	assert_true(vm->vm >= 0 && vm->vcpu >= 0);
	return true;
}

static void unmake_vm(const struct vm *vm)
{
	close(vm->vcpu);
	close(vm->vm);
	close(vm->kvm);
}

static void give_cpuid(const struct vm *vm)
{
	struct kvm_cpuid2 *cpuid = test_calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	assert_int_equal(ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	assert_int_equal(ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid), 0);
	test_free(cpuid);
}

static void save(const struct vm *vm, struct vcpu_state *ret)
{
	struct vcpu_error err;

	if (!vcpu_state_save(vm->kvm, vm->vm, vm->vcpu, ret, &err))
		fail_msg("%s: %s", err.what, strerror(err.error));
}

/* Words of the XSAVE area in which XMM registers begin. */
#define XMM_FIRST 40u

/* Registers that no other vCPU has by chance. */
static void set_registers(const struct vm *vm)
{
	struct kvm_regs regs = {.rax = 0x1111, .r15 = 0xf0f0f0f0f0f0, .rip = 0x1234, .rflags = 2};
	struct kvm_sregs sregs;
	struct kvm_xsave *xsave = test_calloc(1, sizeof(*xsave));
	struct kvm_debugregs debug = {
		.db = {0x1000, 0x2000, 0x3000, 0x4000}, .dr6 = 0xffff0ff0, .dr7 = 0x400};

	/* FCW, MXCSR, XMM registers; bytes 512 to 519 say that they are not what they are at first. */
	assert_int_equal(ioctl(vm->vcpu, KVM_GET_XSAVE, xsave), 0);
	xsave->region[0] = 0x27f;
	xsave->region[6] = 0x1fa0;
	for (uint32_t i = XMM_FIRST; i < XMM_FIRST + 64; i++)
		xsave->region[i] = i * 0x01030507;
	xsave->region[128] |= 3;
	assert_int_equal(ioctl(vm->vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cr2 = 0xabcdef;
	sregs.gdt.base = 0x5000;
	assert_int_equal(ioctl(vm->vcpu, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(ioctl(vm->vcpu, KVM_SET_REGS, &regs), 0);
	assert_int_equal(ioctl(vm->vcpu, KVM_SET_XSAVE, xsave), 0);
	test_free(xsave);
	assert_int_equal(ioctl(vm->vcpu, KVM_SET_DEBUGREGS, &debug), 0);
}

static uint64_t *msr_of(struct vcpu_state *s, uint32_t index)
{
	for (uint32_t i = 0; i < s->nr_msrs; i++) {
		if (s->msrs[i].index == index)
			return (uint64_t *)&s->msrs[i].data;
	}
	return NULL;
}

#define MSR_TSC 0x10u
#define MSR_LSTAR 0xc0000082u

static void a_vcpu_becomes_the_other(void **state)
{
	struct vcpu_state *one = test_malloc(sizeof(*one));
	struct vcpu_state *two = test_malloc(sizeof(*two));
	struct vcpu_error err;
	struct vm a;
	struct vm b;

	(void)state;
	if (!make_vm(&a)) {
		printf("skipped: there is no KVM that we may use\n");
		skip();
	}
	assert_true(make_vm(&b));
	give_cpuid(&a);
	set_registers(&a);
	save(&a, one);
	assert_non_null(msr_of(one, MSR_LSTAR));
	*msr_of(one, MSR_LSTAR) = 0x123456;
	if (!vcpu_state_restore(b.vcpu, one, &err))
		fail_msg("%s: %s (0x%llx)", err.what, strerror(err.error),
			(unsigned long long)err.detail);
	save(&b, two);
	/* The counter went on, the rest is what it was. */
	assert_true(*msr_of(two, MSR_TSC) >= *msr_of(one, MSR_TSC));
	*msr_of(two, MSR_TSC) = *msr_of(one, MSR_TSC);
	assert_int_equal(one->have, two->have);
	assert_memory_equal(&one->regs, &two->regs, sizeof(one->regs));
	assert_memory_equal(&one->sregs, &two->sregs, sizeof(one->sregs));
	assert_memory_equal(&one->debugregs, &two->debugregs, sizeof(one->debugregs));
	assert_memory_equal(one->xsave, two->xsave, one->xsave_len);
	assert_int_equal(one->nr_msrs, two->nr_msrs);
	assert_memory_equal(one->msrs, two->msrs, one->nr_msrs * sizeof(one->msrs[0]));
	assert_int_equal(two->sregs.cr2, 0xabcdef);
	assert_int_equal(((const uint32_t *)(const void *)two->xsave)[XMM_FIRST + 5],
		(XMM_FIRST + 5) * 0x01030507);
	assert_int_equal(*msr_of(two, MSR_LSTAR), 0x123456);
	assert_int_equal(one->nr_cpuid, two->nr_cpuid);
	unmake_vm(&a);
	unmake_vm(&b);
	test_free(one);
	test_free(two);
}

static void an_msr_that_is_refused_is_named(void **state)
{
	struct vcpu_state *s = test_malloc(sizeof(*s));
	struct vcpu_error err = {0};
	struct vm vm;

	(void)state;
	if (!make_vm(&vm)) {
		printf("skipped: there is no KVM that we may use\n");
		skip();
	}
	give_cpuid(&vm);
	save(&vm, s);
	s->msrs[s->nr_msrs++] = (struct kvm_msr_entry){.index = 0x4b564dff, .data = 1};
	assert_false(vcpu_state_restore(vm.vcpu, s, &err));
	assert_string_equal(err.what, "KVM_SET_MSRS");
	assert_int_equal(err.detail, 0x4b564dff);
	unmake_vm(&vm);
	test_free(s);
}

static void a_failed_call_is_named(void **state)
{
	struct vcpu_state *s = test_malloc(sizeof(*s));
	struct vcpu_error err = {0};

	(void)state;
	assert_false(vcpu_state_save(-1, -1, -1, s, &err));
	assert_string_equal(err.what, "KVM_GET_REGS");
	assert_int_equal(err.error, EBADF);
	s->have = 1u << VCPU_REGS;
	assert_false(vcpu_state_restore(-1, s, &err));
	assert_string_equal(err.what, "KVM_SET_SREGS");
	test_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_is_cut_short_is_refused),
		cmocka_unit_test(every_changed_bit_is_seen),
		cmocka_unit_test(records_that_cannot_be_are_refused),
		cmocka_unit_test(a_record_that_comes_twice_is_refused),
		cmocka_unit_test(a_state_without_what_it_needs_is_refused),
		cmocka_unit_test(a_vcpu_becomes_the_other),
		cmocka_unit_test(an_msr_that_is_refused_is_named),
		cmocka_unit_test(a_failed_call_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
