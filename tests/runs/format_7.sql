BEGIN TRANSACTION;
CREATE TABLE digests (
    part TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (part, name)
) WITHOUT ROWID
;
INSERT INTO "digests" VALUES('fact','began',X'1CAB3C2299991ACFC53A02120DC90F82');
INSERT INTO "digests" VALUES('fact','command',X'A9B1B27140803F79B19296D80FF1708B');
INSERT INTO "digests" VALUES('fact','config',X'0117F494A547E6E5148956103EAAC3F8');
INSERT INTO "digests" VALUES('fact','data',X'0ADEC271449E77349DEC328A16536F7F');
INSERT INTO "digests" VALUES('fact','environment',X'E878A1B25BFA10427AF10A3122E081ED');
INSERT INTO "digests" VALUES('fact','holder',X'F677142F2774C0172FF599DE76BAAC9E');
INSERT INTO "digests" VALUES('fact','metric',X'0F9C1D8A0801F204D3BE67D7DCFC9A4B');
INSERT INTO "digests" VALUES('fact','modes',X'B77E50FAA34481BB0620BF206A42479E');
INSERT INTO "digests" VALUES('fact','notes',X'4F30F410273765361D9E4ECBF9C96F6B');
INSERT INTO "digests" VALUES('fact','overrides',X'AAC55E024829FAC4937FA99F528EB422');
INSERT INTO "digests" VALUES('fact','planned',X'63C86E3E301052971395B6A01542BA56');
INSERT INTO "digests" VALUES('fact','resolved',X'CBF4D0D0F4B90DCB6337A08A9833E429');
INSERT INTO "digests" VALUES('fact','variants',X'5DB42AA2DC8601C5E7483EE76CD5ECF0');
INSERT INTO "digests" VALUES('fact','version',X'D0CB3575BC65A60E48CDED7037D33D5F');
INSERT INTO "digests" VALUES('fact','written_by',X'AEDE29AF31D661FFCEE4217974D967CD');
INSERT INTO "digests" VALUES('lane','0',X'E9C7B7F9D4FB437D9B7F27199757210C');
INSERT INTO "digests" VALUES('lane','1',X'F9F00EB9F084E995BC243008AF7553F0');
INSERT INTO "digests" VALUES('plan','0',X'E7C95E482C1B18A814B0DF1C7F397B4C');
INSERT INTO "digests" VALUES('plan','1',X'9589439DAED45A3610A1294E9F7D6585');
INSERT INTO "digests" VALUES('plan','2',X'3E5989334BE4112EB5167F7772C08710');
CREATE TABLE evaluations (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, val_loss REAL, metric REAL,
    PRIMARY KEY (lane, step)
) WITHOUT ROWID;
INSERT INTO "evaluations" VALUES(0,8,2.49931037425994873046e-01,5.13075238399670841005e-01);
INSERT INTO "evaluations" VALUES(0,16,2.03907787799835205078e-01,6.0273941169757838665e-01);
INSERT INTO "evaluations" VALUES(0,24,1.69017717242240905761e-01,6.7071351952924662676e-01);
INSERT INTO "evaluations" VALUES(1,8,6.39512389898300170898e-02,0.875407864025735);
INSERT INTO "evaluations" VALUES(1,16,3.16446200013160705566e-02,9.38348797297189118893e-01);
INSERT INTO "evaluations" VALUES(1,24,1.94406304508447647094e-02,9.62125054794602529995e-01);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "facts" VALUES('written_by','"0.1.0"');
INSERT INTO "facts" VALUES('began','"2026-11-28T21:08:43+00:00"');
INSERT INTO "facts" VALUES('command','"grid"');
INSERT INTO "facts" VALUES('config','"\nname: tiny\nmodel: linear\ndata: {name: regression, batch_size: full, args: {samples: 64, features: 4, condition: 10}}\nloss: mse\noptimizer: {name: sgd, lr: 0.1}\ntraining: {steps: 20}\nrange_test: {start_lr: 1e-4, end_lr: 100, steps: 60, seeds: 2}\n"');
INSERT INTO "facts" VALUES('overrides','["grid.lrs=[0.01, 0.1, 0.3]", "grid.seeds=1", "grid.extend=false", "training.steps=24", "training.eval_every=8", "grid.lanes=single"]');
INSERT INTO "facts" VALUES('resolved','"name: tiny\nseed: 0\ndevice: auto\nmodel:\n  name: linear\n  args: {}\n  init_strict: true\ndata:\n  name: regression\n  args:\n    samples: 64\n    features: 4\n    condition: 10\n  batch_size: full\n  memory: 2.0\nloss:\n  name: mse\n  args: {}\noptimizer:\n  name: sgd\n  args: {}\n  lr: 0.1\n  param_groups: []\ntraining:\n  steps: 24\n  eval_every: 8\n  schedule:\n    name: constant\n    args: {}\n  accumulate: 1\n  precision: float32\n  l1: 0.0\n  seeds: 1\nlooks: 10\nsinks: []\nfind:\n  seeds: 1\n  lanes: auto\n  judge: val_loss\n  compile: false\n  stack_memory: 2.0\n  groups: false\n  verify: false\n  verify_share: 1.0\n  verify_seeds: 3\nrange_test:\n  start_lr: 0.0001\n  end_lr: 100.0\n  steps: 60\n  seeds: 2\n  spacing: exponential\n  grad_norm: false\n  held_out: false\n  over: lr\n  edge: false\n  method: consensus\ngrid:\n  seeds: 1\n  lanes: single\n  judge: val_loss\n  compile: false\n  stack_memory: 2.0\n  prune: false\n  tolerance: 0.05\n  lrs:\n  - 0.01\n  - 0.1\n  - 0.3\n  extend: false\nsearch:\n  seeds: 3\n  lanes: auto\n  judge: val_loss\n  compile: false\n  stack_memory: 2.0\n  low: 0.0001\n  high: 1.0\n  prune: false\n  tolerance: 0.05\n  sampler: tpe\n  trials: 16\n  batch: 4\ncompare:\n  seeds: 5\n  lanes: auto\n  judge: val_loss\n  compile: false\n  stack_memory: 2.0\n  tuning_seeds: 2\n  schedules:\n  - name: constant\n    args: {}\n  - name: linear\n    args: {}\n  - name: cosine\n    args: {}\n  - name: one_cycle\n    args: {}\n  optimizers: []\n"');
INSERT INTO "facts" VALUES('variants','{}');
INSERT INTO "facts" VALUES('holder','{"pid": 5359, "host": "host", "since": "2026-11-28 21:08:43"}');
INSERT INTO "facts" VALUES('environment','{"lrfind": "0.1.0", "python": "3.11.7", "torch": "2.14.1+cu130", "numpy": "2.4.6", "platform": "Linux", "device": "cpu", "threads": 2}');
INSERT INTO "facts" VALUES('data','{"rows": {"train": 64, "validation": 128}, "batch": [[[64, 4], "float32"], [[64, 1], "float32"]], "transforms": ["artificial, drawn with seed 0; the training loss has exactly the configured curvature"], "streamed": null}');
INSERT INTO "facts" VALUES('metric','"R^2"');
INSERT INTO "facts" VALUES('modes','[{"name": "single", "reason": "as requested", "threads": 2, "seconds_per_step": 0.00026925850397674367, "stack_size": 1, "compile": false, "ratio": null}]');
INSERT INTO "facts" VALUES('notes','[]');
INSERT INTO "facts" VALUES('planned','3');
INSERT INTO "facts" VALUES('version','7');
CREATE TABLE health (
    lane INTEGER NOT NULL REFERENCES lanes, place INTEGER NOT NULL, step INTEGER NOT NULL,
    layer TEXT NOT NULL, size INTEGER NOT NULL, trained INTEGER NOT NULL, matrix INTEGER NOT NULL,
    grad_norm REAL, weight_norm REAL, update_ratio REAL, zero_share REAL, nonfinite_share REAL,
    dead_share REAL, clipped_share REAL, PRIMARY KEY (lane, place)
) WITHOUT ROWID;
INSERT INTO "health" VALUES(0,0,0,'affine',5,1,1,9.50706839561462402343e-01,6.60713613033294677734e-01,1.43890940158873277543e-02,0.0,0.0,0.0,NULL);
INSERT INTO "health" VALUES(1,0,0,'affine',5,1,1,9.50706839561462402343e-01,6.60713613033294677734e-01,1.43890920424882967632e-01,0.0,0.0,0.0,NULL);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, planned INTEGER NOT NULL, lr REAL NOT NULL,
    outcome TEXT NOT NULL, rung INTEGER, seconds REAL NOT NULL, error TEXT, variant TEXT NOT NULL
);
INSERT INTO "lanes" VALUES(0,0,24,0.01,'finished',NULL,0.00976054799684789,NULL,'');
INSERT INTO "lanes" VALUES(1,0,24,0.1,'finished',NULL,8.85493899841094389557e-03,NULL,'');
CREATE TABLE plan (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, lr REAL NOT NULL, variant TEXT NOT NULL
);
INSERT INTO "plan" VALUES(0,0,0.01,'');
INSERT INTO "plan" VALUES(1,0,0.1,'');
INSERT INTO "plan" VALUES(2,0,0.3,'');
CREATE TABLE steps (
    lane INTEGER PRIMARY KEY REFERENCES lanes, lr BLOB NOT NULL, loss BLOB NOT NULL, held_out_loss BLOB,
    grad_norm BLOB, momentum BLOB, skipped BLOB
);
INSERT INTO "steps" VALUES(0,X'7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F7B14AE47E17A843F',X'000000009606D53F000000A0CC73D43F000000401CE6D33F00000080535DD33F0000002043D9D23F000000E0BD59D23F0000000098DED13F000000A0A767D13F00000040C4F4D03F00000000C785D03F000000E08A1AD03F000000E0D765CF3F000000208F9DCE3F00000080F9DBCD3F00000000D720CD3F00000000EB6BCC3F00000000FABCCB3F000000E0CB13CB3F000000E02970CA3F000000A0DFD1C93F00000040BB38C93F000000A08BA4C83F000000E02215C83F00000000548AC73F',NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(1,X'9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F9A9999999999B93F',X'000000009606D53F000000803F7FCF3F000000205444C83F00000080F139C33F00000000B247BF3F000000A0330FBA3F000000A05F2AB63F000000800030B33F0000002065DAB03F000000C0E9F5AD3F000000C057E4AA3F000000A0DC54A83F000000405A29A63F00000020714CA43F000000C0A5AEA23F000000808444A13F000000A06205A03F000000401BD59D3F0000004078DD9B3F000000E05A1B9A3F000000E0CC87983F00000000081D973F000000002FD6953F0000000021AF943F',NULL,NULL,NULL,NULL);
COMMIT;
