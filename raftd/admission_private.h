/*
 * admission_private: what the files of admission call of each other.
 *
 * admission.c has what is known, admission_judge.c the judgement of others by it.
 */
#ifndef METASTORE_RAFTD_ADMISSION_PRIVATE_H
#define METASTORE_RAFTD_ADMISSION_PRIVATE_H

#include "raftd/admission.h"

/* The member of this id in the applied membership, or NULL. */
const struct ms_conf_member *admission_find(const struct admission *admission, node_id id);
bool admission_is_listed(const struct admission *admission, node_id id);
/* 0 while joining: only a member can say to which cluster it belongs. */
uint64_t admission_own_cluster(const struct admission *admission);
/* The data id of a member that has none in the membership; the first one counts. */
void admission_pin_data(struct admission *admission, node_id id, uint64_t data_id);
/* A listed member says that it belongs to another cluster. One per id is enough to be barred. */
void admission_note_conflict(struct admission *admission, node_id id, uint64_t cluster_id,
                             struct ms_instant now);
void admission_forget_conflict(struct admission *admission, node_id id);
/* "http://a:1,http://b:2", cut at the end of dst. */
void admission_print_list(const struct admission *admission, char *dst, size_t dst_bytes);

#endif
