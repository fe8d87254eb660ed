/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_none.c - where there is no machine: processors other than x86-64. */
#include "machine.h"

#include <stdio.h>

bool machine_available(char *why, size_t cap)
{
	snprintf(why, cap, "the machine of guestmem run is for x86-64 only");
	return false;
}

bool machine_takes_1g(void)
{
	return false;
}

bool machine_init(struct machine *m, struct run_memory *memory, const struct machine_opts *opts)
{
	*m = (struct machine){.memory = memory, .opts = *opts};
	return false;
}

void machine_fini(struct machine *m)
{
	*m = (struct machine){0};
}

uint64_t machine_params_gpa(uint32_t vcpu)
{
	return MACHINE_VCPU_AREA + vcpu * MACHINE_VCPU_STRIDE;
}

uint64_t machine_control_gpa(const struct machine *m)
{
	(void)m;
	return 0;
}

uint64_t machine_control_lifted(const struct machine *m)
{
	(void)m;
	return 0;
}

bool machine_start(struct machine *m)
{
	(void)m;
	return false;
}

void machine_stop(struct machine *m)
{
	(void)m;
}

bool machine_go_on(struct machine *m)
{
	(void)m;
	return false;
}

void machine_throttle(struct machine *m, uint32_t percent)
{
	(void)m;
	(void)percent;
}

int machine_throttle_tick(struct machine *m)
{
	(void)m;
	return -1;
}

bool machine_all_stopped(const struct machine *m)
{
	(void)m;
	return true;
}

bool machine_move(struct machine *m)
{
	(void)m;
	return false;
}

bool machine_save(const struct machine *m, uint32_t vcpu, struct machine_saved *ret)
{
	(void)m;
	(void)vcpu;
	(void)ret;
	return false;
}

bool machine_restore(struct machine *m, uint32_t vcpu, const struct machine_saved *saved)
{
	(void)m;
	(void)vcpu;
	(void)saved;
	return false;
}

double machine_ticks_per_second(const struct machine *m)
{
	(void)m;
	return 0;
}

size_t machine_stats(const struct machine *m, struct kvm_stat **ret)
{
	(void)m;
	*ret = NULL;
	return 0;
}
