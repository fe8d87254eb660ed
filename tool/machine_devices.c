/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine_devices.c - the machine's devices, as regions of spaces: a space of ports with the status
 * port, the console and the exceptions' port, and the mailbox page among the guest's addresses.
 */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

/* Callbacks run in the thread of the vCPU whose exit it is. */
static _Thread_local struct machine_vcpu *current;

void machine_devices_current(struct machine_vcpu *vcpu)
{
	current = vcpu;
}

static int write_status(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)size;
	if (off)
		return -EACCES;
	current->status = (uint32_t)value;
	__atomic_store_n(&current->end, MACHINE_ENDED, __ATOMIC_RELEASE);
	return 0;
}

static int write_exception(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	machine_crash_exception(current, (uint32_t)value);
	return 0;
}

static int write_console(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	struct machine_devices *devices = ctx;

	(void)size;
	if (off)
		return 0; /* its settings have no meaning here */
	pthread_mutex_lock(&devices->lock);
	if (putchar((int)(value & 0xff)) == EOF || (value == '\n' && fflush(stdout) == EOF))
		machine_crash(current, "its console, standard output, cannot be written: %s",
			strerror(errno));
	pthread_mutex_unlock(&devices->lock);
	return 0;
}

static int read_console(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	(void)size;
	*ret_value = off == RUN_PORT_CONSOLE_LSR ? RUN_CONSOLE_READY : 0;
	return 0;
}

static int read_mailbox(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	const struct machine_devices *devices = ctx;

	(void)size;
	switch (off) {
	case RUN_MAILBOX_MAGIC:
		*ret_value = RUN_MAGIC;
		return 0;
	case RUN_MAILBOX_TIME:
		*ret_value = (uint64_t)(tool_now() * 1e9);
		return 0;
	case RUN_MAILBOX_LIFTED:
		*ret_value = machine_control_lifted(devices->machine);
		return 0;
	case RUN_MAILBOX_STOP:
		*ret_value = __atomic_load_n(&devices->stop, __ATOMIC_RELAXED);
		return 0;
	default:
		return -EACCES;
	}
}

static int write_mailbox(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	struct machine_devices *devices = ctx;

	(void)size;
	if (off != RUN_MAILBOX_DOORBELL)
		return -EACCES;
	pthread_mutex_lock(&devices->lock);
	devices->doorbells++;
	devices->doorbell = value;
	pthread_mutex_unlock(&devices->lock);
	return 0;
}

static bool add_device(struct machine_devices *devices, struct gm_space *space, uint64_t at,
	uint64_t len, const char *name, const struct gm_device_ops *ops)
{
	struct gm_device_ops with_ctx = *ops;
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = at,
		.len = len,
		.kind = GM_REGION_MMIO,
		.name = name,
		.device = &with_ctx};
	struct gm_error err;

	with_ctx.size = sizeof(with_ctx);
	with_ctx.ctx = devices;
	if (gm_space_add(space, &desc, NULL, &err) == 0)
		return true;
	tool_error("%s: %s", name, err.text);
	return false;
}

bool machine_devices_init(struct machine *m)
{
	static const struct gm_space_opts opts = {
		.size = sizeof(opts), .gpa_limit = GM_SPACE_NO_WINDOW, .name = "ports"};
	static const struct gm_device_ops status = {.write = write_status, .max_size = 4};
	static const struct gm_device_ops exception = {.write = write_exception, .max_size = 1};
	static const struct gm_device_ops console = {
		.read = read_console, .write = write_console, .max_size = 1};
	static const struct gm_device_ops mailbox = {
		.read = read_mailbox, .write = write_mailbox, .min_size = 8};
	struct machine_devices *d = &m->devices;
	struct gm_error err;

	d->machine = m;
	pthread_mutex_init(&d->lock, NULL);
	d->made = true;
	if (gm_space_create(&opts, &m->ports, &err) < 0) {
		tool_error("ports: %s", err.text);
		return false;
	}
	return add_device(
		       d, m->memory->space, m->mailbox_gpa, RUN_MAILBOX_LEN, "mailbox", &mailbox) &&
	       add_device(d, m->ports, RUN_PORT_CONSOLE, 8, "console", &console) &&
	       add_device(d, m->ports, RUN_PORT_STATUS, 4, "status", &status) &&
	       add_device(d, m->ports, RUN_PORT_EXCEPTION, 1, "exception", &exception) &&
	       machine_control_init(m);
}

void machine_devices_fini(struct machine *m)
{
	gm_space_destroy(m->ports);
	machine_control_fini(m);
	m->ports = NULL;
	if (m->devices.made)
		pthread_mutex_destroy(&m->devices.lock);
	m->devices.made = false;
}
