// Marks the symbols that libtendril.so exports; all others are hidden.
#pragma once

#define TENDRIL_API __attribute__((visibility("default")))
