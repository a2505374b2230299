# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine knows of Linux: images, boot protocol, symbols, awareness."""
