#!/usr/bin/perl
# debhelper sequence: dh --with aiosystemd, or Build-Depends: dh-sequence-aiosystemd.
use strict;
use warnings;
use Debian::Debhelper::Dh_Lib;

insert_before('dh_installsystemd', 'dh_aiosystemd');

1;
