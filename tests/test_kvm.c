/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kvm.c - slots of KVM as the space is: what gets one, what exits, what changes, what is refused. */
#include "fault.h"
#include "one_guest.h"

static void test_memory_is_the_guests(void **state)
{
	(void)state;
	start_guest(GM_OPTS(gm_kvm_opts, .max_slots = 1000), 1);
	*(uint64_t *)(void *)(guest.system + MIB(2)) = 0x1122334455667788;
	assert_int_equal(guest_load_u64(MIB(2)), 0x1122334455667788);
	assert_true(guest_has_slot(&guest, RAM - PAGE));
	assert_false(guest_has_slot(&guest, RAM));
	stop_guest();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_is_the_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
