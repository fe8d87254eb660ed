/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_door.c - the registers by which a guest registers its buffers and names the one to be looked at.
 *
 *   RESET → open → (address, REGISTER) ... → READY → a buffer's command: gm_control_message()
 *
 * Whatever does not fit leads to broken, which only RESET leaves. The lock is not held while a request is done,
 * so vCPUs ask side by side.
 */
#include <errno.h>

#include <guestmem/control_message.h>

#include "core/error.h"
#include "services/control.h"
#include "sys/sys.h"

#define BUFFERS_DEFAULT 256u
#define BUFFERS_MAX 65536u

enum door_state { DOOR_BROKEN = 0, DOOR_OPEN, DOOR_READY };

struct gm_control_door {
	struct gm_control *control;
	pthread_mutex_t lock;
	enum door_state state;
	uint64_t buffer;  /* the register */
	uint32_t command; /* the register, as it reads */
	uint32_t max;
	uint32_t nr;
	uint64_t calls;
	uint64_t wrong;
	uint64_t gpas[];
};

int gm_control_door_create(struct gm_control *control, uint32_t buffers,
	struct gm_control_door **ret, struct gm_error *err)
{
	uint32_t max = buffers ? buffers : BUFFERS_DEFAULT;
	struct gm_control_door *door;

	if (max > BUFFERS_MAX)
		return gm_error_set(err, -EINVAL, 0, 0, "control: at most %u buffers", BUFFERS_MAX);
	door = gm_sys_alloc(sizeof(*door) + max * sizeof(door->gpas[0]));
	if (!door)
		return gm_error_set(err, -ENOMEM, 0, 0, "control: out of memory");
	door->control = control;
	door->max = max;
	door->command = GM_CONTROL_ERROR;
	pthread_mutex_init(&door->lock, NULL);
	*ret = door;
	return 0;
}

void gm_control_door_destroy(struct gm_control_door *door)
{
	if (!door)
		return;
	pthread_mutex_destroy(&door->lock);
	gm_sys_free(door);
}

/* ---- with the lock ---- */

static void answer(struct gm_control_door *door, enum door_state state)
{
	door->state = state;
	door->command = state == DOOR_BROKEN ? GM_CONTROL_ERROR : GM_CONTROL_ACK;
	if (state == DOOR_BROKEN)
		door->nr = 0;
}

static void broken(struct gm_control_door *door)
{
	door->wrong++;
	answer(door, DOOR_BROKEN);
}

static void add_buffer(struct gm_control_door *door)
{
	if (door->state != DOOR_OPEN || door->nr == door->max ||
		!gm_control_is_ram(door->control, door->buffer, GM_CONTROL_MESSAGE_LEN)) {
		broken(door);
		return;
	}
	/* Looked at again with each request. */
	door->gpas[door->nr] = door->buffer;
	door->buffer = GM_CONTROL_FIRST_BUFFER + door->nr++;
	answer(door, DOOR_OPEN);
}

static void obey(struct gm_control_door *door, uint32_t command)
{
	switch (command) {
	case GM_CONTROL_RESET:
		door->nr = 0;
		door->buffer = 0;
		answer(door, DOOR_OPEN);
		break;
	case GM_CONTROL_REGISTER:
		add_buffer(door);
		break;
	case GM_CONTROL_READY:
		if (door->state == DOOR_OPEN)
			answer(door, DOOR_READY);
		else
			broken(door);
		break;
	case GM_CONTROL_DISCONNECT:
		answer(door, DOOR_BROKEN);
		break;
	case GM_CONTROL_ACK:
	case GM_CONTROL_ERROR:
		broken(door);
		break;
	default:
		door->wrong++;
		break;
	}
}

/* Is it the command of a buffer? */
static bool find_buffer(struct gm_control_door *door, uint32_t command, uint64_t *ret_gpa)
{
	uint32_t at = command - GM_CONTROL_FIRST_BUFFER;

	if (command < GM_CONTROL_FIRST_BUFFER || door->state != DOOR_READY || at >= door->nr)
		return false;
	*ret_gpa = door->gpas[at];
	door->calls++;
	return true;
}

/* ---- as a device ---- */

static void write_buffer(struct gm_control_door *door, uint64_t off, uint32_t size, uint64_t value)
{
	uint64_t was = door->buffer;

	if (size == 8 && off == 0)
		door->buffer = value;
	else if (size == 4 && off == 0)
		door->buffer = (was & ~UINT64_C(0xffffffff)) | (uint32_t)value;
	else if (size == 4 && off == 4)
		door->buffer = (uint32_t)was | value << 32;
	else
		door->wrong++;
}

static int write_door(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	struct gm_control_door *door = ctx;
	uint64_t gpa = 0;
	bool call = false;

	pthread_mutex_lock(&door->lock);
	if (off < GM_CONTROL_DOOR_COMMAND) {
		write_buffer(door, off, size, value);
	} else if (off == GM_CONTROL_DOOR_COMMAND && size == 4) {
		call = find_buffer(door, (uint32_t)value, &gpa);
		if (!call)
			obey(door, (uint32_t)value);
	} else {
		door->wrong++;
	}
	pthread_mutex_unlock(&door->lock);
	/* What becomes of it the guest reads in its buffer. */
	if (call)
		gm_control_message(door->control, gpa);
	return 0;
}

static int read_door(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	struct gm_control_door *door = ctx;
	uint64_t value = 0;

	pthread_mutex_lock(&door->lock);
	if (off == GM_CONTROL_DOOR_BUFFER && size >= 4)
		value = door->buffer;
	else if (off == 4 && size == 4)
		value = door->buffer >> 32;
	else if (off == GM_CONTROL_DOOR_COMMAND && size >= 4)
		value = door->command;
	else
		door->wrong++;
	pthread_mutex_unlock(&door->lock);
	*ret_value = size < 8 ? value & ((UINT64_C(1) << size * 8) - 1) : value;
	return 0;
}

void gm_control_door_ops(struct gm_control_door *door, struct gm_device_ops *ret)
{
	*ret = (struct gm_device_ops){
		.size = sizeof(*ret),
		.read = read_door,
		.write = write_door,
		.ctx = door,
	};
}

int gm_control_door_info(struct gm_control_door *door, struct gm_control_door_info *ret)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	pthread_mutex_lock(&door->lock);
	*ret = (struct gm_control_door_info){
		.size = size,
		.ready = door->state == DOOR_READY,
		.buffers = door->nr,
		.calls = door->calls,
		.wrong = door->wrong,
	};
	pthread_mutex_unlock(&door->lock);
	return 0;
}
