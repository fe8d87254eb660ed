/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest.c - the payloads' program in the guest: where it begins, and what a compiler may call.
 *
 * It begins with a stack, in long mode and ring 3. What it returns the machine takes as its status.
 */
#include "payload.h"

uint32_t payload_main(struct run_params *p);
void *memset(void *to, int byte, size_t len);
void *memcpy(void *restrict to, const void *restrict from, size_t len);

__attribute__((section(".text.entry"), used)) uint32_t payload_main(struct run_params *p)
{
	return payload_run(p);
}

void *memset(void *to, int byte, size_t len)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len) : : "memory");
	return to;
}
