/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_message.h - requests of control.h as a guest sends them: in a buffer of guest memory that is
 * named through two registers.
 *
 * A buffer has 32 bytes, little-endian. The request: code, address, length, argument (64 bits each). The
 * response takes its place: errno (32 bits, positive), code that was refused or 0 (32 bits), value, arg0, arg1
 * (64 bits each). As the proposal's device does, what is not RAM is EINVAL, an unknown code EOPNOTSUPP; other errors
 * are those of gm_control_request(). After INFO and QUERY arg0 and arg1 are theirs, else arg0 is
 * gm_control_result.done.
 *
 * The request is read from guest memory once, into memory of the library, and checked there.
 */
#ifndef GUESTMEM_CONTROL_MESSAGE_H
#define GUESTMEM_CONTROL_MESSAGE_H

#include <guestmem/control.h>
#include <guestmem/device.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_CONTROL_MESSAGE_LEN 32u
#define GM_CONTROL_TEXT_LEN 64u  /* of GM_CONTROL_TEXT_NAME, to a NUL or its end */
#define GM_CONTROL_BATCH_MAX 64u /* requests of GM_CONTROL_BATCH */

/**
 * gm_control_message() - do the request in a buffer of the guest, and answer there
 * @control: borrowed
 * @gpa:     address of the buffer
 *
 * Returns 0 (answered, whatever the answer is); or what reading or writing guest memory returned: then there is
 * no answer. A request may be done and its answer not be written, if the guest takes the buffer away
 * meanwhile. Threads: any. Since: 0.1.
 */
GM_API int gm_control_message(struct gm_control *control, uint64_t gpa);

/* ---- the registers ---- */

struct gm_control_door;

/* Of a page of MMIO, or of ports. */
#define GM_CONTROL_DOOR_BUFFER                                                                     \
	0u /* write, 8 bytes or twice 4: address of a buffer; read: its command */
#define GM_CONTROL_DOOR_COMMAND 8u /* write, 4 bytes: a command; read: _ACK or _ERROR */
#define GM_CONTROL_DOOR_LEN 16u

/* Commands. First RESET, then for each buffer its address and REGISTER, then READY. */
#define GM_CONTROL_RESET 0x060fe6d2u      /* all buffers are forgotten */
#define GM_CONTROL_REGISTER 0x0e359539u   /* the buffer gets a command of its own */
#define GM_CONTROL_READY 0x0ca8d227u      /* from now on these do the requests */
#define GM_CONTROL_DISCONNECT 0x030f5da0u /* forgotten; answers _ERROR, as does all that is wrong */
#define GM_CONTROL_ACK 0x03cf5196u
#define GM_CONTROL_ERROR 0x01fba249u
#define GM_CONTROL_FIRST_BUFFER 0x80000000u /* commands of buffers from here on */

/**
 * struct gm_control_door_info - the registers as they are
 * @size:    sizeof(struct gm_control_door_info), set by the caller
 * @ready:   1 between READY and the next RESET, DISCONNECT or mistake
 * @buffers: that are registered
 * @calls:   commands of buffers that were obeyed
 * @wrong:   accesses and commands that have no meaning
 */
struct gm_control_door_info {
	size_t size;
	uint32_t ready;
	uint32_t buffers;
	uint64_t calls;
	uint64_t wrong;
};

/**
 * gm_control_door_create() - registers for a guest
 * @control: borrowed; must outlive it
 * @buffers: how many may be registered, one for each vCPU; 0 = 256, at most 65536
 * @ret:     destroyed with gm_control_door_destroy()
 * @err:     optional
 *
 * Returns 0, -EINVAL, -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_control_door_create(struct gm_control *control, uint32_t buffers,
	struct gm_control_door **ret, struct gm_error *err);

/**
 * gm_control_door_destroy() - free it
 * @door: taken; no region has it any more; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_control_door_destroy(struct gm_control_door *door);

/**
 * gm_control_door_ops() - as a device of a region of MMIO, in a guest's space or in one of ports
 * @door: borrowed
 * @ret:  filled in
 *
 * A request is done in the thread of the access. The region may be longer than GM_CONTROL_DOOR_LEN.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_control_door_ops(struct gm_control_door *door, struct gm_device_ops *ret);

/**
 * gm_control_door_info() - describe it
 * @door: borrowed
 * @ret:  filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_control_door_info(struct gm_control_door *door, struct gm_control_door_info *ret);

#ifdef __cplusplus
}
#endif

#endif
