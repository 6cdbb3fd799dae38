/* Shared by the files that hold the functions of templates. */
#pragma once

#include "cli/template-internal.h"

template_function template_eq, template_ne, template_lt, template_le, template_gt, template_ge, template_not;
