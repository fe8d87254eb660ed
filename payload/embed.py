# SPDX-License-Identifier: BSD-3-Clause
"""embed.py FILE - writes a file as the array of a C source to standard output."""

import sys

with open(sys.argv[1], "rb") as file:
    data = file.read()
print("/* SPDX-License-Identifier: BSD-3-Clause */")
print("/* Made by payload/embed.py. */")
print("#include <stddef.h>\n")
print("extern const unsigned char payload_blob[];\nextern const size_t payload_blob_len;\n")
print("const unsigned char payload_blob[] = {")
for at in range(0, len(data), 16):
    print("\t" + " ".join(f"{byte}," for byte in data[at:at + 16]))
print("};")
print(f"const size_t payload_blob_len = {len(data)};")
