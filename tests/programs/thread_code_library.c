int nothing_in_particular;
