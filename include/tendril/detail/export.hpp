// Marks what libtendril.so offers; everything else in it is hidden.
#pragma once

#define TENDRIL_API __attribute__((visibility("default")))
