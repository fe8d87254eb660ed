/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_msg.h - the messages of vhost-user: their layout, and what each may carry.
 *
 * Source: "Vhost-user Protocol" (docs/interop/vhost-user.rst of QEMU), with feature bits up to 23. Numbers are in the
 * machine's own byte order. Nothing here does I/O or knows a state: a message that passes gm_vhost_msg_check() has the
 * length and the descriptors of its kind, and what it says is still a peer's word.
 */
#ifndef GUESTMEM_VHOST_MSG_H
#define GUESTMEM_VHOST_MSG_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>
#include <guestmem/vhost_proto.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_VHOST_HEADER 12u        /* bytes of a header */
#define GM_VHOST_PAYLOAD_MAX 2056u /* bytes of the longest payload */
#define GM_VHOST_FDS_MAX 8u        /* descriptors of a message */
#define GM_VHOST_REGIONS_MAX 8u    /* of SET_MEM_TABLE */
#define GM_VHOST_SLOTS_MAX 509u    /* memory slots that a back-end of ours offers */
#define GM_VHOST_CONFIG_MAX 256u   /* bytes of a device's configuration in one message */
#define GM_VHOST_SHMEM_MAX 256u    /* shared memory regions of a device */

/* gm_vhost_msg.flags */
#define GM_VHOST_VERSION 0x1u
#define GM_VHOST_VERSION_MASK 0x3u
#define GM_VHOST_REPLY 0x4u
#define GM_VHOST_NEED_REPLY 0x8u

/** struct gm_vhost_region - memory; user addresses are numbers of the front-end that mean nothing here */
struct gm_vhost_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t user;
	uint64_t off; /* in its file */
};

/* SET_MEM_TABLE */
struct gm_vhost_memory {
	uint32_t nr;
	uint32_t pad;
	struct gm_vhost_region region[GM_VHOST_REGIONS_MAX];
};

/* ADD_MEM_REG, REM_MEM_REG */
struct gm_vhost_one_region {
	uint64_t pad;
	struct gm_vhost_region region;
};

/* SET_VRING_NUM, _BASE, _ENABLE, _ENDIAN, GET_VRING_BASE */
struct gm_vhost_vring_state {
	uint32_t index;
	uint32_t num;
};

#define GM_VHOST_VRING_LOG                                                                         \
	0x1u /* gm_vhost_vring_addr.flags: writes into the used ring are logged */

/* SET_VRING_ADDR: user addresses; IOVAs with IOMMU_PLATFORM; guest addresses with GPA_ADDRESSES */
struct gm_vhost_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log; /* guest address that stands for the used ring in the log */
};

/* The number in SET_VRING_KICK, _CALL, _ERR. */
#define GM_VHOST_VRING_INDEX 0xffu
#define GM_VHOST_VRING_NO_FD 0x100u

/* SET_LOG_BASE with LOG_SHMFD */
struct gm_vhost_log {
	uint64_t len;
	uint64_t off;
};

enum gm_vhost_iotlb_type {
	GM_VHOST_IOTLB_MISS = 1,
	GM_VHOST_IOTLB_UPDATE = 2,
	GM_VHOST_IOTLB_INVALIDATE = 3,
	GM_VHOST_IOTLB_ACCESS_FAIL = 4,
};

/* IOTLB_MSG, BACKEND_IOTLB_MSG; permissions are bits: 1 read, 2 write */
struct gm_vhost_iotlb {
	uint64_t iova;
	uint64_t len;
	uint64_t user;
	uint8_t perm;
	uint8_t type;
	uint8_t pad[6];
};

#define GM_VHOST_CONFIG_HEAD 12u /* bytes in front of the contents */

/* GET_CONFIG, SET_CONFIG */
struct gm_vhost_config {
	uint32_t off;
	uint32_t len;
	uint32_t flags; /* 0: written by the driver, 1: by a migration */
	uint8_t bytes[GM_VHOST_CONFIG_MAX];
};

/* BACKEND_VRING_HOST_NOTIFIER */
struct gm_vhost_area {
	uint64_t number;
	uint64_t len;
	uint64_t off;
};

/* GET_INFLIGHT_FD, SET_INFLIGHT_FD */
struct gm_vhost_inflight {
	uint64_t len;
	uint64_t off;
	uint16_t queues;
	uint16_t queue_size;
	uint8_t pad[4];
};

/* SET_DEVICE_STATE_FD */
struct gm_vhost_device_state {
	uint32_t direction; /* 0: save, 1: load */
	uint32_t phase;     /* 0: stopped */
};

/* GET_SHMEM_CONFIG */
struct gm_vhost_shmem_config {
	uint32_t nr;
	uint32_t pad;
	uint64_t len[GM_VHOST_SHMEM_MAX];
};

/* BACKEND_SHMEM_MAP, _UNMAP */
struct gm_vhost_shmem_map {
	uint8_t id;
	uint8_t pad[7];
	uint64_t fd_off;
	uint64_t off;
	uint64_t len;
	uint64_t flags; /* bit 0: writable */
};

/**
 * struct gm_vhost_msg - a message; the header's GM_VHOST_HEADER bytes and the payload are its first and its last member
 * @request: enum gm_vhost_request, or gm_vhost_backend_request
 * @flags:   GM_VHOST_VERSION and others
 * @len:     bytes of the payload
 * @u:       the payload. On the wire it follows the header at once, here it is aligned
 *
 * Descriptors travel beside it.
 */
struct gm_vhost_msg {
	uint32_t request;
	uint32_t flags;
	uint32_t len;
	union {
		uint64_t number;
		struct gm_vhost_memory memory;
		struct gm_vhost_one_region one;
		struct gm_vhost_vring_state vring;
		struct gm_vhost_vring_addr addr;
		struct gm_vhost_log log;
		struct gm_vhost_iotlb iotlb;
		struct gm_vhost_config config;
		struct gm_vhost_area area;
		struct gm_vhost_inflight inflight;
		struct gm_vhost_device_state state;
		struct gm_vhost_shmem_config shmem;
		struct gm_vhost_shmem_map map;
		uint8_t uuid[16];
		uint8_t bytes[GM_VHOST_PAYLOAD_MAX];
	} u;
};

/* Who sends it. */
enum gm_vhost_from {
	GM_VHOST_FROM_FRONTEND,
	GM_VHOST_FROM_BACKEND, /* a request on the back-end's own socket, not a reply */
};

/* How a request is answered. */
enum gm_vhost_answer {
	GM_VHOST_ANSWER_ACK,  /* a number, 0 = done, and only if NEED_REPLY is set */
	GM_VHOST_ANSWER_OWN,  /* always, by a payload of its own */
	GM_VHOST_ANSWER_DONE, /* always, by a number, 0 = done */
};

/**
 * struct gm_vhost_kind - what a request may carry
 * @name:    as the specification writes it, without VHOST_USER_
 * @len_min: bytes of the payload
 * @len_max: bytes of the payload
 * @fds_min: descriptors
 * @fds_max: descriptors
 * @needs:   enum gm_vhost_protocol that must have been negotiated, -1 = none
 * @answer:  enum gm_vhost_answer
 * @reply_min: bytes of the reply's payload, of GM_VHOST_ANSWER_OWN
 * @reply_max: bytes
 * @reply_fds: descriptors of the reply at most
 */
struct gm_vhost_kind {
	const char *name;
	uint16_t len_min;
	uint16_t len_max;
	uint8_t fds_min;
	uint8_t fds_max;
	int8_t needs;
	uint8_t answer;
	uint16_t reply_min;
	uint16_t reply_max;
	uint8_t reply_fds;
};

/**
 * gm_vhost_kind() - look a request up
 * @from:    enum gm_vhost_from
 * @request: its number
 *
 * Returns a constant, or NULL: there is no such request. Threads: any. Since: 0.1.
 */
GM_API const struct gm_vhost_kind *gm_vhost_kind(enum gm_vhost_from from, uint32_t request);

/**
 * gm_vhost_msg_check_header() - may the payload be read?
 * @from: who sent it
 * @msg:  its header; the payload is not looked at
 * @err:  optional
 *
 * Returns 0: @msg->len is at most GM_VHOST_PAYLOAD_MAX and what its kind may have; -EPROTO (version, length, a reply in
 * the place of a request); -ENOTSUP: there is no such request, and @msg->len is at most GM_VHOST_PAYLOAD_MAX.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_msg_check_header(
	enum gm_vhost_from from, const struct gm_vhost_msg *msg, struct gm_error *err);

/**
 * gm_vhost_msg_check() - has a request the length and the descriptors of its kind?
 * @from: who sent it
 * @msg:  whole
 * @fds:  number of descriptors that came with it
 * @err:  optional
 *
 * Counts in a payload are compared with its length and with the descriptors, and the descriptors of a ring's eventfd
 * with its flag. Returns as gm_vhost_msg_check_header(). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_msg_check(enum gm_vhost_from from, const struct gm_vhost_msg *msg, uint32_t fds,
	struct gm_error *err);

/**
 * gm_vhost_msg_check_reply() - is it the reply to a request?
 * @from:    who sent the request
 * @request: the request
 * @reply:   whole
 * @fds:     number of descriptors that came with the reply
 * @err:     optional
 *
 * A request of GM_VHOST_ANSWER_ACK and _DONE is answered by a number; what it says is not looked at. The reply to
 * SET_LOG_BASE may have any length, as back-ends differ. Returns 0, -EPROTO. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_msg_check_reply(enum gm_vhost_from from, const struct gm_vhost_msg *request,
	const struct gm_vhost_msg *reply, uint32_t fds, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
