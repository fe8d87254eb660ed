/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_image.h - the file of a disk, and the socket of a device on it, in a directory that goes with the tests. */
#ifndef GM_TESTS_BLK_IMAGE_H
#define GM_TESTS_BLK_IMAGE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "spawned.h"

static const char *tool; /* the command */
static char dir[] = "/var/tmp/gm-blk-XXXXXX";
static char image[64];
static char path[64]; /* of the socket */
static int image_fd;

static inline int make_image(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(path, sizeof(path), "%s/socket", dir);
	image_fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return image_fd < 0;
}

static inline int remove_image(void **state)
{
	(void)state;
	close(image_fd);
	unlink(image);
	unlink(path);
	return rmdir(dir);
}

#endif
