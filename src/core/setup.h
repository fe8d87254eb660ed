/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * setup.h - offsets of struct boot_params of Linux for x86, which are those of the setup header in a
 * bzImage. test_loader_boot.c compares them with the kernel's own header.
 */
#ifndef GM_CORE_SETUP_H
#define GM_CORE_SETUP_H

/* In front of the header, in boot_params only. */
#define BOOT_RSDP 0x70u
#define BOOT_EXT_INITRD 0xc0u
#define BOOT_EXT_INITRD_LEN 0xc4u
#define BOOT_EXT_CMDLINE 0xc8u
#define BOOT_SENTINEL 0x1efu

#define SETUP_SECTS 0x1f1u
#define SETUP_SYSSIZE 0x1f4u
#define SETUP_BOOT_FLAG 0x1feu
#define SETUP_JUMP 0x200u
#define SETUP_MAGIC 0x202u
#define SETUP_VERSION 0x206u
#define SETUP_LOADER 0x210u
#define SETUP_LOADFLAGS 0x211u
#define SETUP_CODE32_START 0x214u
#define SETUP_INITRD 0x218u
#define SETUP_INITRD_LEN 0x21cu
#define SETUP_CMDLINE 0x228u
#define SETUP_INITRD_MAX 0x22cu
#define SETUP_ALIGNMENT 0x230u
#define SETUP_RELOCATABLE 0x234u
#define SETUP_XLOADFLAGS 0x236u
#define SETUP_CMDLINE_SIZE 0x238u
#define SETUP_PAYLOAD_OFF 0x248u
#define SETUP_PAYLOAD_LEN 0x24cu
#define SETUP_DATA 0x250u
#define SETUP_PREF_ADDRESS 0x258u
#define SETUP_INIT_SIZE 0x260u
#define SETUP_HANDOVER 0x264u
#define SETUP_INFO 0x268u

#define SETUP_LOADED_HIGH 0x01u
#define SETUP_XLF_KERNEL_64 0x1u
#define SETUP_XLF_ABOVE_4G 0x2u

#endif
