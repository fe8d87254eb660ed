/* SPDX-License-Identifier: BSD-3-Clause */
/* vcpu_state.c - the bytes of a vCPU's state: see vcpu_state.h and docs/vcpu-state.md. */
#include "vcpu_state.h"

#include <string.h>

#include "state_bytes.h"

/* A record: type and length, the bytes, zeros up to a multiple of eight. */
#define RECORD_HEADER_LEN 8u

struct record {
	const char *name;
	size_t offset; /* in struct vcpu_state */
	size_t unit;   /* the length is a multiple of it */
	size_t min;    /* units */
	size_t max;
};

#define FIXED(name, member)                                                                        \
	{                                                                                          \
		name, offsetof(struct vcpu_state, member),                                         \
			sizeof(((struct vcpu_state *)0)->member), 1, 1                             \
	}

static const struct record records[VCPU_NR_RECORDS] = {
	[VCPU_REGS] = FIXED("registers", regs),
	[VCPU_SREGS] = FIXED("special registers", sregs),
	[VCPU_FPU] = FIXED("FPU", fpu),
	[VCPU_XSAVE] = {"XSAVE area", offsetof(struct vcpu_state, xsave), 64, 9,
		VCPU_XSAVE_MAX / 64},
	[VCPU_XCRS] = FIXED("extended control registers", xcrs),
	[VCPU_MSRS] = {"MSRs", offsetof(struct vcpu_state, msrs), sizeof(struct kvm_msr_entry), 0,
		VCPU_MSRS_MAX},
	[VCPU_DEBUGREGS] = FIXED("debug registers", debugregs),
	[VCPU_MP_STATE] = FIXED("run state", mp_state),
	[VCPU_EVENTS] = FIXED("pending events", events),
	[VCPU_LAPIC] = FIXED("local APIC", lapic),
	[VCPU_TSC_KHZ] = FIXED("TSC frequency", tsc_khz),
	[VCPU_CPUID] = {"CPUID", offsetof(struct vcpu_state, cpuid),
		sizeof(struct kvm_cpuid_entry2), 0, VCPU_CPUID_MAX},
};

/* Without these there is no vCPU. */
static const uint32_t needed = 1u << VCPU_REGS | 1u << VCPU_SREGS | 1u << VCPU_MSRS;

static size_t record_len(const struct vcpu_state *state, uint32_t type)
{
	switch (type) {
	case VCPU_XSAVE:
		return state->xsave_len;
	case VCPU_MSRS:
		return state->nr_msrs * records[type].unit;
	case VCPU_CPUID:
		return state->nr_cpuid * records[type].unit;
	default:
		return records[type].unit;
	}
}

size_t vcpu_state_len(const struct vcpu_state *state)
{
	size_t len = VCPU_STATE_HEADER_LEN;

	for (uint32_t type = 1; type < VCPU_NR_RECORDS; type++) {
		if (state->have & 1u << type)
			len += RECORD_HEADER_LEN + padded(record_len(state, type));
	}
	return len;
}

void vcpu_state_encode(const struct vcpu_state *state, uint8_t *buf)
{
	size_t len = vcpu_state_len(state);
	uint8_t *at = buf + VCPU_STATE_HEADER_LEN;
	uint32_t nr = 0;

	memset(buf, 0, len);
	for (uint32_t type = 1; type < VCPU_NR_RECORDS; type++) {
		size_t bytes = record_len(state, type);

		if (!(state->have & 1u << type))
			continue;
		store_le(at, 4, type);
		store_le(at + 4, 4, bytes);
		memcpy(at + RECORD_HEADER_LEN, (const uint8_t *)state + records[type].offset,
			bytes);
		at += RECORD_HEADER_LEN + padded(bytes);
		nr++;
	}
	store_le(buf, 8, VCPU_STATE_MAGIC);
	store_le(buf + 8, 4, VCPU_STATE_VERSION);
	store_le(buf + 12, 4, len);
	store_le(buf + 16, 4, nr);
	store_le(buf + 24, 8, checksum(buf + VCPU_STATE_HEADER_LEN, len - VCPU_STATE_HEADER_LEN));
}

static const char *check_header(const uint8_t *buf, size_t len)
{
	if (len < VCPU_STATE_HEADER_LEN || load_le(buf, 8) != VCPU_STATE_MAGIC)
		return "is no state of a vCPU";
	if (load_le(buf + 8, 4) != VCPU_STATE_VERSION)
		return "is of another version";
	if (load_le(buf + 12, 4) != len || len > VCPU_STATE_LEN_MAX || len % 8)
		return "is cut short, or longer than it says";
	if (load_le(buf + 20, 4) != 0)
		return "has bits that must be zero";
	if (load_le(buf + 24, 8) !=
		checksum(buf + VCPU_STATE_HEADER_LEN, len - VCPU_STATE_HEADER_LEN))
		return "is damaged: its checksum is wrong";
	return NULL;
}

static void set_number(struct vcpu_state *state, uint32_t type, size_t len)
{
	uint32_t nr = (uint32_t)(len / records[type].unit);

	if (type == VCPU_XSAVE)
		state->xsave_len = (uint32_t)len;
	else if (type == VCPU_MSRS)
		state->nr_msrs = nr;
	else if (type == VCPU_CPUID)
		state->nr_cpuid = nr;
}

/* One record at @at, of which @left bytes are there. */
static const char *take_record(
	struct vcpu_state *state, const uint8_t *at, size_t left, size_t *ret_taken)
{
	uint64_t type;
	uint64_t len;

	if (left < RECORD_HEADER_LEN)
		return "ends in the middle of a record";
	type = load_le(at, 4);
	len = load_le(at + 4, 4);
	if (type == 0 || type >= VCPU_NR_RECORDS)
		return "has a record that is not known";
	if (state->have & 1u << type)
		return "has a record twice";
	if (len % records[type].unit || len / records[type].unit < records[type].min ||
		len / records[type].unit > records[type].max)
		return "has a record of a wrong length";
	if (padded(len) > left - RECORD_HEADER_LEN)
		return "ends in the middle of a record";
	for (size_t i = len; i < padded(len); i++) {
		if (at[RECORD_HEADER_LEN + i])
			return "has bits that must be zero";
	}
	memcpy((uint8_t *)state + records[type].offset, at + RECORD_HEADER_LEN, len);
	set_number(state, (uint32_t)type, len);
	state->have |= 1u << type;
	*ret_taken = RECORD_HEADER_LEN + padded(len);
	return NULL;
}

const char *vcpu_state_decode(const uint8_t *buf, size_t len, struct vcpu_state *ret)
{
	const char *why = check_header(buf, len);
	size_t at = VCPU_STATE_HEADER_LEN;
	uint64_t nr = 0;

	memset(ret, 0, sizeof(*ret));
	for (; !why && at < len; nr++) {
		size_t taken = 0;

		why = take_record(ret, buf + at, len - at, &taken);
		at += taken;
	}
	if (!why && nr != load_le(buf + 16, 4))
		why = "has another number of records than it says";
	if (!why && (ret->have & needed) != needed)
		why = "lacks records without which there is no vCPU";
	if (!why && !(ret->have & (1u << VCPU_FPU | 1u << VCPU_XSAVE)))
		why = "has no floating-point state";
	return why;
}
