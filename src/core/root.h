/* SPDX-License-Identifier: BSD-3-Clause */
/* root.h - square roots, for bounds of estimates: the library needs no libm. */
#ifndef GM_CORE_ROOT_H
#define GM_CORE_ROOT_H

#define GM_Z95 1.96 /* standard deviations to both sides of 95 % */

/* Newton's; 0 of what is not positive. */
static inline double gm_root(double x)
{
	double r = x > 1 ? x : 1;

	if (x <= 0)
		return 0;
	for (int i = 0; i < 60; i++)
		r = (r + x / r) / 2;
	return r;
}

#endif
