/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_fake.h - a back-end of vhost-user for tests: a thread that answers, notes what it was told, and lies when
 * told to.
 *
 * It keeps the table that it is told, and notes if that can never be (overlaps, something that is not there).
 */
#ifndef GM_TESTS_VHOST_FAKE_H
#define GM_TESTS_VHOST_FAKE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

#define FAKE_REGIONS 64u
#define FAKE_NOTES 256u
#define FAKE_BASE UINT64_C(0x7f0000000000)

/* What is wrong with an answer. */
enum fake_lie {
	LIE_NONE,
	LIE_REQUEST,
	LIE_VERSION,
	LIE_NO_REPLY,
	LIE_FLAGS,
	LIE_LONGER,
	LIE_SHORTER,
	LIE_HUGE,
	LIE_CUT_HEAD,
	LIE_CUT_PAYLOAD,
	LIE_CLOSED,
	LIE_SILENT,
	LIE_FD,
	LIE_FDS,
	LIE_NUMBER, /* the payload's bytes are all ones */
	LIE_NR,
};

struct fake {
	int sock;
	int theirs; /* what the front-end is given */
	pthread_t thread;
	uint64_t features;
	uint64_t protocol;
	uint64_t slots;
	uint32_t refuse;    /* this request is refused */
	uint32_t refuse_nr; /* from its so-manieth time on, once; 1 = the first */
	uint32_t lie_about; /* this request is answered by a lie */
	enum fake_lie lie;
	atomic_uint nr;
	uint32_t notes[FAKE_NOTES];
	atomic_uint nr_regions;
	struct gm_vhost_region regions[FAKE_REGIONS];
	atomic_bool wrong; /* the front-end did what it must not do */
	atomic_int channel;
	atomic_uint features_set_low;
	uint8_t *log;
	uint64_t log_len;
	struct gm_vhost_vring_addr addr;
	struct gm_vhost_vring_state base;
	struct gm_vhost_iotlb iotlb;
	uint8_t status;
	uint32_t miss_in; /* while this is asked, a translation is missed */
	uint64_t miss_iova;
	bool listening;
};

#define FAKE_PROTOCOL                                                                              \
	(1u << GM_VHOST_PROTOCOL_MQ | 1u << GM_VHOST_PROTOCOL_LOG_SHMFD |                          \
		1u << GM_VHOST_PROTOCOL_REPLY_ACK | 1u << GM_VHOST_PROTOCOL_BACKEND_REQ |          \
		1u << GM_VHOST_PROTOCOL_PAGEFAULT | 1u << GM_VHOST_PROTOCOL_CONFIG |               \
		1u << GM_VHOST_PROTOCOL_BACKEND_SEND_FD | 1u << GM_VHOST_PROTOCOL_INFLIGHT_SHMFD | \
		1u << GM_VHOST_PROTOCOL_RESET_DEVICE |                                             \
		1u << GM_VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS | 1u << GM_VHOST_PROTOCOL_STATUS |     \
		1u << GM_VHOST_PROTOCOL_SHARED_OBJECT | 1u << GM_VHOST_PROTOCOL_DEVICE_STATE |     \
		1u << GM_VHOST_PROTOCOL_SHMEM)
#define FAKE_FEATURES                                                                              \
	(GM_VHOST_F_PROTOCOL_FEATURES | GM_VHOST_F_LOG_ALL | GM_VHOST_F_IOMMU_PLATFORM |           \
		UINT64_C(1) << 32)

/* A message with descriptors, as far as it goes. */
void fake_send(int sock, const void *msg, size_t len, const int *fds, unsigned int nr);
/* Header and payload as they are on the wire: bytes. */
size_t fake_bytes(const struct gm_vhost_msg *msg, uint8_t *bytes);
int fake_memfd(size_t len);
/* Asks for a translation of miss_iova on the channel. */
void fake_miss(struct fake *f, bool wants);

/* One that plays along, and its thread. */
struct fake *fake_new(void);
void fake_start(struct fake *f);
/* The front-end need not have gone. */
void fake_end(struct fake *f);

/* How often it was told this, and when first: place among all, or FAKE_NOTES. */
unsigned int fake_count(const struct fake *f, uint32_t request);
unsigned int fake_first(const struct fake *f, uint32_t request);

#endif
